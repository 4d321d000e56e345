//! The command as people run it: real processes, real signals, nothing left behind.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test that fails is a test that fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A working directory of one test, removed at its end; it is also the data directory's parent.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("deepersensor-cli-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    /// The command with these arguments, in an environment of nothing but what a service here needs.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
        command
            .args(arguments)
            .current_dir(&self.0)
            .env_clear()
            .env("APP_PORT", "0")
            .env("LOG_FORMAT", "json")
            // Nobody listens there: the discard port is privileged and unused.
            .env("OLLAMA_BASE_URL", "http://127.0.0.1:9");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process under way, killed if its test ends before it does.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts the command and reads one of its two outputs line by line; the other one goes where the test's goes.
    fn start(mut command: Command, reads_stdout: bool) -> Self {
        if reads_stdout {
            command.stdout(Stdio::piped());
        } else {
            command.stderr(Stdio::piped()).stdout(Stdio::null());
        }
        let mut child = command.spawn().unwrap();
        let output: Box<dyn Read + Send> = if reads_stdout {
            Box::new(child.stdout.take().unwrap())
        } else {
            Box::new(child.stderr.take().unwrap())
        };
        let (sender, lines) = mpsc::channel();
        // Ends with the output, that is with the process.
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok()
        });
        Self { child, lines }
    }

    /// Reads up to the first line that contains `wanted`, and returns all of them.
    fn until(&self, wanted: &str) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("{error} while waiting for {wanted:?} after {read:#?}"));
            read.push(line);
            if read[read.len() - 1].contains(wanted) {
                return read;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end of the output, then of the process, and returns its status.
    fn status(mut self) -> Option<i32> {
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that says it serves, and the two addresses it names.
fn serving(scratch: &Scratch) -> (Running, String, String) {
    let mut command = scratch.command(&["serve", "--set", "OPS_BIND=127.0.0.1:0"]);
    command.env("DEMO_MODEL", "true");
    let service = Running::start(command, false);
    let lines = service.until("\"message\":\"serving\"");
    let starting: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(starting["message"], "starting");
    assert_eq!(starting["store"], "sqlite");
    assert_eq!(starting["upstreams"], "Ollama http://127.0.0.1:9, demo model");
    assert_eq!(starting["data_dir"], "./data");
    let serving: serde_json::Value = serde_json::from_str(&lines[lines.len() - 1]).unwrap();
    let text = |name: &str| serving[name].as_str().unwrap().to_owned();
    (service, text("address"), text("ops"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn create_admin(scratch: &Scratch) -> Output {
    with_password(scratch, &["admin", "create", "--email", "root@example.org"])
}

/// A verb that reads a password from its standard input.
fn with_password(scratch: &Scratch, arguments: &[&str]) -> Output {
    let mut command = scratch.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"four words of one's own\n").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a18_the_first_administrators_code_is_printed_on_demand_and_never_into_a_stored_log() {
    let scratch = Scratch::new();
    let (service, ..) = serving(&scratch);
    let told = service.until("deepersensor admin first-code");
    assert_eq!(told.iter().filter(|line| line.contains("no administrator yet")).count(), 1, "{told:#?}");
    let first_code = || scratch.run(&["admin", "first-code"]);
    let printed = first_code();
    let code = stdout(&printed);
    assert!(code.starts_with("dsi_") && code.lines().count() == 1, "{code}{}", stderr(&printed));
    assert_eq!(stdout(&first_code()), code, "the same until it is used");

    assert!(create_admin(&scratch).status.success());
    let over = first_code();
    assert_eq!((over.status.code(), stdout(&over).as_str()), (Some(1), ""));
    assert!(stderr(&over).contains("there is an administrator already"), "{}", stderr(&over));

    service.signal("TERM");
    for line in told.into_iter().chain(std::iter::from_fn(|| service.lines.recv_timeout(PATIENCE).ok())) {
        assert!(!line.contains("dsi_"), "the code is in the log: {line}");
    }
    assert_eq!(service.status(), Some(0));
}

#[test]
fn administrators_invite_list_and_reset_passwords_at_the_command_line() {
    let scratch = Scratch::new();
    assert!(create_admin(&scratch).status.success());
    let reset = |email| with_password(&scratch, &["admin", "reset-password", "--email", email]);
    let done = reset("root@example.org");
    assert!(stdout(&done).starts_with("changed the password of root@example.org"), "{}", stderr(&done));
    let unknown = reset("nobody@example.org");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("no such account"), "{}", stderr(&unknown));

    let invited = scratch.run(&["admin", "invite", "--role", "admin", "--note", "for Eve", "--days", "7"]);
    let code = stdout(&invited);
    assert!(code.starts_with("dsi_") && code.lines().count() == 1, "{code}{}", stderr(&invited));
    assert_eq!(scratch.run(&["admin", "invite", "--role", "owner"]).status.code(), Some(2));

    let listed = stdout(&scratch.run(&["admin", "list"]));
    assert!(listed.lines().count() == 1 && listed.contains(" admin root@example.org"), "{listed}");
    assert_eq!(stdout(&scratch.run(&["admin", "list", "--search", "nobody"])), "");
}

#[test]
fn verbs_name_their_store_and_only_some_make_one() {
    let scratch = Scratch::new();
    let existing: [&[&str]; 5] = [
        &["admin", "list"],
        &["admin", "invite"],
        &["admin", "reset-password", "--email", "root@example.org"],
        &["keys", "list"],
        &["keys", "rotate"],
    ];
    for verb in existing {
        let refused = scratch.run(verb);
        assert_eq!(refused.status.code(), Some(1), "{verb:?}");
        assert!(
            stderr(&refused).contains("there is no store in ./data: set DATA_DIR, or"),
            "{}",
            stderr(&refused)
        );
    }
    assert!(!scratch.0.join("data").exists());

    let made = create_admin(&scratch);
    assert_eq!(stderr(&made), "store: SQLite ./data\n");
    for verb in existing.into_iter().filter(|verb| !verb.contains(&"reset-password")) {
        assert_eq!(stderr(&scratch.run(verb)), "store: SQLite ./data\n", "{verb:?}");
    }
    let elsewhere = scratch.command(&["migrate"]).env("DATA_DIR", "./other").output().unwrap();
    assert_eq!(stderr(&elsewhere), "store: SQLite ./other\n");
}

#[test]
fn a05_where_sign_up_is_closed_accounts_are_made_here_and_invites_are_warned_of() {
    let scratch = Scratch::new();
    let arguments = ["admin", "create", "--email", "ada@example.org", "--role", "user"];
    let created = with_password(&scratch, &arguments);
    assert!(stdout(&created).starts_with("created user ada@example.org"), "{}", stderr(&created));
    assert!(stdout(&scratch.run(&["admin", "list"])).contains(" user ada@example.org"));
    let invite = |mode| scratch.command(&["admin", "invite"]).env("SIGNUP_MODE", mode).output().unwrap();
    let closed = invite("closed");
    assert!(
        closed.status.success() && stderr(&closed).contains("SIGNUP_MODE is closed"),
        "{}",
        stderr(&closed)
    );
    assert!(!stderr(&invite("invite")).contains("SIGNUP_MODE"));
}

#[test]
fn refusals_are_said_once_and_with_what_to_do() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("short"), "short\n").unwrap();
    let email = ["admin", "create", "--email", "root@example.org", "--password-file", "short"];
    let weak = stderr(&scratch.run(&email));
    assert!(
        weak.ends_with("deepersensor: password refused: a password needs at least 8 characters\n"),
        "{weak}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (setting, hint) in [
        (format!("APP_PORT={}", address.port()), "set APP_PORT or APP_HOST"),
        (format!("OPS_BIND={address}"), "set OPS_BIND"),
    ] {
        let refused = scratch.run(&["serve", "--set", &setting]);
        assert_eq!(refused.status.code(), Some(1));
        let said = stderr(&refused);
        assert!(said.contains(&format!("cannot listen on {address}: ")) && said.contains(hint), "{said}");
    }
}

#[test]
fn check_config_tells_all_problems_and_a_wrong_configuration_starts_nothing() {
    let scratch = Scratch::new();
    assert!(scratch.run(&["check-config"]).status.success());
    fs::write(scratch.0.join(".env"), "APP_PROT=1\nRATE_LIMIT_BURST=none\n").unwrap();
    for verb in ["check-config", "serve", "demo", "migrate", "healthcheck"] {
        let output = scratch.run(&[verb]);
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let said = stderr(&output);
        assert!(said.contains("did you mean APP_PORT?") && said.contains("RATE_LIMIT_BURST"), "{said}");
    }
    assert!(!scratch.0.join("data").exists());
}

/// What our documents print as a value of the secret, commented out or not.
fn sample_secrets() -> Vec<&'static str> {
    let documents = [
        include_str!("../.env.example"),
        include_str!("../README.md"),
        include_str!("../DESIGN.md"),
        include_str!("../CHANGELOG.md"),
    ];
    let values = documents.into_iter().flat_map(|text| text.split("JWT_SECRET=").skip(1));
    values.map(|rest| rest.split(|c: char| c.is_whitespace() || "`\"'".contains(c)).next().unwrap()).collect()
}

#[test]
fn a08_every_sample_secret_of_our_documents_is_refused() {
    let scratch = Scratch::new();
    let printed = sample_secrets();
    assert!(!printed.is_empty(), ".env.example prints one at least");
    let others = ["secret", "change-me-to-32-random-bytes-please", "your-super-secret-jwt-key-goes-here!"];
    for secret in printed.into_iter().chain(others) {
        for verb in ["serve", "check-config"] {
            let output = scratch.command(&[verb]).env("JWT_SECRET", secret).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{secret:?}");
            assert!(stderr(&output).contains("JWT_SECRET"), "{}", stderr(&output));
        }
    }
}

#[test]
fn g12_the_command_shows_operators_token_and_says_what_is_wrong_without_it() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("token"), "hV2kQ9wZ4tR7mX1cL8bN5sF3dG6jP0yA-ops\n").unwrap();
    let mut command = scratch.command(&["serve", "--set", "OPS_BIND=0.0.0.0:0"]);
    let service = Running::start(
        {
            command.env("OPS_TOKEN_FILE", "token");
            command
        },
        false,
    );
    let lines = service.until("\"serving\"");
    let serving: serde_json::Value = serde_json::from_str(&lines[lines.len() - 1]).unwrap();
    let ops = serving["ops"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
    let verb = ["actors", "--address", &ops];
    let refused = scratch.run(&verb);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("401") && stderr(&refused).contains("OPS_TOKEN"),
        "{}",
        stderr(&refused)
    );
    let drawn = scratch.command(&verb).env("OPS_TOKEN_FILE", "token").output().unwrap();
    assert!(stdout(&drawn).contains("db_sup"), "{}", stderr(&drawn));
    service.signal("TERM");
    assert_eq!(service.status(), Some(0));
}

#[test]
fn a_service_is_healthy_shows_its_actors_keeps_its_store_to_itself_and_stops_on_sigterm() {
    let scratch = Scratch::new();
    let (service, address, ops) = serving(&scratch);
    let port = format!("APP_PORT={}", address.rsplit(':').next().unwrap());
    let healthcheck = ["healthcheck", "--set", &port];
    let healthy = scratch.run(&healthcheck);
    assert!(healthy.status.success(), "{}", stderr(&healthy));

    let tree = scratch.run(&["actors", "--address", &ops]);
    let drawn = stdout(&tree);
    for name in ["db_sup", "auth_sup", "limits_sup", "models_sup", "ops", "gates"] {
        assert!(drawn.contains(name), "{name} is not in\n{drawn}{}", stderr(&tree));
    }

    let second = scratch.run(&["serve", "--set", "OPS_BIND=127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1), "two services on one SQLite: {}", stderr(&second));

    let created = create_admin(&scratch);
    assert!(stdout(&created).starts_with("created administrator root@example.org"), "{}", stderr(&created));
    let again = create_admin(&scratch);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("taken"), "{}", stderr(&again));

    service.signal("TERM");
    assert_eq!(service.status(), Some(0));
    assert_eq!(scratch.run(&healthcheck).status.code(), Some(1), "nobody listens there any more");
    assert!(scratch.run(&["migrate"]).status.success());
}

#[test]
fn a09_keys_are_rotated_and_listed_beside_a_running_service() {
    let scratch = Scratch::new();
    let (service, ..) = serving(&scratch);
    let list = || {
        let listed = stdout(&scratch.run(&["keys", "list"]));
        let rows = listed.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.skip(1).map(|row| <[String; 4]>::try_from(row).unwrap()).collect::<Vec<_>>()
    };
    let before = list();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0][1..3], ["HS256", "signing"]);

    let rotated = stdout(&scratch.run(&["keys", "rotate", "--algorithm", "EdDSA"]));
    let after = list();
    assert_eq!((&after[0], &after[1][1..3]), (&before[0], &["EdDSA".to_owned(), "next".to_owned()][..]));
    let [kid, .., signs_from] = &after[1];
    assert_eq!(rotated.trim_end(), format!("key {kid} (EdDSA) signs from {signs_from}"));
    assert!(signs_from.ends_with('Z') && kid.len() == 11);

    let refused = scratch.run(&["keys", "rotate", "--algorithm", "none"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("HS256 or EdDSA"), "{}", stderr(&refused));
    service.signal("TERM");
    assert_eq!(service.status(), Some(0));
}

#[test]
fn d07_a_second_signal_leaves_at_once() {
    let scratch = Scratch::new();
    let (service, ..) = serving(&scratch);
    service.signal("TERM");
    service.until("stopping");
    let began = Instant::now();
    service.signal("INT");
    assert_eq!(service.status(), Some(1));
    assert!(began.elapsed() < Duration::from_millis(1_500), "a graceful stop alone takes two seconds");
}

#[test]
fn the_demo_chats_prints_curl_lines_that_work_and_keeps_its_user() {
    let scratch = Scratch::new();
    let demo = || Running::start(scratch.command(&["demo"]), true);
    let first = demo();
    let said = first.until("Serving until Ctrl-C");
    let text = said.join("\n");
    assert!(text.contains("deepersensor-demo:latest") && text.contains(" tokens in "), "{text}");
    let user = scratch.0.join("data/demo/user.json");
    let kept = fs::read(&user).unwrap();
    assert!(!text.contains(password(&user).as_str()), "the password stays in its file");
    let administer = "DATA_DIR=./data/demo deepersensor admin create --email root@example.org";
    assert!(text.contains(administer), "{text}");

    let answers = copy_and_paste(&scratch.0, &said);
    for part in
        [r#""email":"you@example.org""#, r#""object":"list""#, "event: chunk", "event: done", r#""nodes":"#]
    {
        assert!(answers.contains(part), "{part} is not in\n{answers}");
    }
    first.signal("INT");
    assert_eq!(first.status(), Some(0));

    let second = demo();
    second.until("Serving until Ctrl-C");
    assert_eq!(fs::read(&user).unwrap(), kept);
    second.signal("INT");
    assert_eq!(second.status(), Some(0));
}

fn password(user: &Path) -> String {
    let user: serde_json::Value = serde_json::from_slice(&fs::read(user).unwrap()).unwrap();
    user["password"].as_str().unwrap().to_owned()
}

/// Runs the printed lines in one shell, as a reader would.
fn copy_and_paste(dir: &Path, said: &[String]) -> String {
    let is_command = |line: &&str| line.starts_with("TOKEN=") || line.starts_with("curl ");
    let script: Vec<&str> = said.iter().map(|line| line.trim()).filter(is_command).collect();
    assert_eq!(script.len(), 5, "{said:#?}");
    // Nothing of this machine's own settings, such as a proxy, may stand between.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.arg("-ec").arg(script.join("\n")).current_dir(dir).env_clear().env("PATH", path);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The lines `NAME=VALUE` of a file that is deployed, after `prefix`, with a unit's directories filled in.
fn assignments(path: &str, prefix: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix(prefix))
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .filter_map(|item| item.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%S", "/var/lib")))
        .collect()
}

/// What compose.yml gives a service in its environment, with nothing set outside and with its secrets in `secrets`.
fn given_to(service: &str, secrets: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yml")).unwrap();
    let own = text.split_once(&format!("\n  {service}:\n")).unwrap().1;
    let environment = own.split_once("\n    environment:\n").unwrap().1;
    environment
        .lines()
        .take_while(|line| line.starts_with("      "))
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| !name.starts_with('#'))
        .map(|(name, value)| {
            let default = value
                .strip_prefix("${")
                .and_then(|value| value.strip_suffix('}'))
                .map(|variable| variable.split_once(":-").map_or("", |(_, default)| default));
            let value = default.unwrap_or(value).trim_matches('"');
            (name.to_owned(), value.replace("/run/secrets", secrets.join(service).to_str().unwrap()))
        })
        .collect()
}

#[test]
fn the_stack_starts_with_valid_settings_and_good_secrets() {
    let scratch = Scratch::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/secrets.sh");
    // Whoever runs the tests is in this group, and may give files to it.
    let group = fs::metadata(&scratch.0).unwrap().gid().to_string();
    let drawn = Command::new("sh").arg(script).args([".", &group]).current_dir(&scratch.0).output().unwrap();
    assert!(drawn.status.success(), "{drawn:?}");

    let production =
        [("APP_ENV", "production"), ("DEMO_MODEL", "false")].map(|(name, value)| (name.into(), value.into()));
    for (service, over) in [("api", [].as_slice()), ("api", &production), ("migrate", &[])] {
        let given = given_to(service, &scratch.0);
        assert!(given.len() > 1, "{given:?}");
        let settings = given.iter().chain(over).cloned();
        let judged = scratch.command(&["check-config"]).envs(settings).output().unwrap();
        assert!(judged.status.success(), "{service} {over:?}: {judged:?}");
        let report = stdout(&judged);
        for (name, value) in given.iter().filter(|(_, value)| !value.is_empty()) {
            let name = name.strip_suffix("_FILE").unwrap_or(name);
            let line =
                report.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default();
            assert!(line.ends_with("environment"), "{name}={value} is no setting: {line:?}");
        }
    }
}

#[test]
fn the_settings_of_the_systemd_unit_are_valid() {
    let settings = assignments("deploy/systemd/deepersensor.service", "Environment=");
    assert!(settings.len() > 2, "{settings:?}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/settings.toml");
    let arguments = ["--config", file.to_str().unwrap(), "check-config"];
    let judged = Scratch::new().command(&arguments).envs(settings.clone()).output().unwrap();
    assert!(judged.status.success(), "{judged:?}");
    let report = stdout(&judged);
    for (name, value) in &settings {
        let line =
            report.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default();
        assert!(line.contains(value) && line.ends_with("environment"), "{name} is no setting: {line:?}");
    }
    assert!(
        report.lines().any(|line| line.starts_with("SIGNUP_MODE") && line.contains("settings.toml")),
        "{report}"
    );
}
