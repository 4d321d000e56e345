# Every shell script of the repository, by shellcheck.
set -euo pipefail
mapfile -t scripts < <(git ls-files | xargs grep -lE '^#!(/usr/bin/env )?(/bin/)?(ba)?sh' -- 2>/dev/null; git ls-files 'scripts/**/*.sh')
shellcheck --shell=bash --external-sources --source-path=SCRIPTDIR/.. "${scripts[@]}"
