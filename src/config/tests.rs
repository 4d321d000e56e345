use std::{fs, path::PathBuf, process::Command, sync::mpsc};

use super::{upstreams::UPSTREAMS_MAX, *};

/// A directory of this test alone, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("deepersensor-config-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD_SECRET: &str = "qX3vN8rT1zLk5WbYc0JhMf7UeD2sPaGo9iRt";

fn environment(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn problems(sources: &Sources) -> Vec<Problem> {
    Config::load(sources).err().map(|Problems(all)| all).unwrap_or_default()
}

/// The only problem of this environment, as it is printed.
fn only(pairs: &[(&str, &str)]) -> String {
    let problems = problems(&environment(pairs));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].to_string()
}

#[test]
fn without_any_source_the_tables_defaults_are_the_rooms_defaults() {
    let config = Config::load(&Sources::default()).unwrap();
    let data_dir = PathBuf::from("./data");
    let bind = "127.0.0.1:8080".parse().unwrap();
    let shown = |value: &dyn std::fmt::Debug| format!("{value:#?}");
    assert_eq!(shown(&config.http), shown(&HttpConfig::new(bind)));
    assert_eq!(shown(&config.system.db), shown(&DbConfig::new(data_dir.clone())));
    assert_eq!(shown(&config.system.auth), shown(&AuthConfig::new(data_dir)));
    assert_eq!(shown(&config.system.model), shown(&ModelConfig::default()));
    assert_eq!(shown(&config.system.rate_limit), shown(&RateLimitConfig::new(60, 20)));
    assert_eq!(shown(&config.system.password), shown(&PasswordConfig::default()));
    assert_eq!(keys::OPS_BIND.default, HttpConfig::OPS_DEFAULT.to_string());
    assert_eq!(config.environment, Environment::Local);
    let untraced = TraceConfig { endpoint: None, service: "deepersensor".to_owned(), share: 1.0 };
    assert_eq!(config.trace, untraced);
    assert_eq!(config.log, LogConfig { filter: "info".to_owned(), format: LogFormat::Text });
}

#[test]
fn each_source_wins_over_those_before_it() {
    let scratch = Scratch::new();
    let mut sources = Sources {
        file: Some(scratch.file(
            "c.toml",
            "APP_PORT = 1\nJWT_ISSUER = \"file\"\nLOG_FORMAT = \"json\"\nRATE_LIMIT_BURST = 3\n",
        )),
        env_file: Some(scratch.file(".env", "JWT_ISSUER=dotenv\nRATE_LIMIT_BURST=4\nAPP_PORT=2\n")),
        environment: environment(&[("APP_PORT", "3"), ("RATE_LIMIT_BURST", "5")]).environment,
        flags: vec![("APP_PORT".to_owned(), "4".to_owned())],
        ..Sources::default()
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.http.bind.port(), 4);
    assert_eq!(config.system.rate_limit.user.burst, 5);
    assert_eq!(config.system.auth.issuer, "dotenv");
    assert_eq!(config.log.format, LogFormat::Json);

    sources.flags.clear();
    sources.environment.clear();
    assert_eq!(Config::load(&sources).unwrap().http.bind.port(), 2);
}

#[test]
fn all_problems_are_told_at_once_each_with_source_and_fix() {
    let scratch = Scratch::new();
    let file = scratch.file("c.toml", "RATE_LIMT_BURST = 3\nAPP_PORT = \"80a\"\n[models]\nx = 1\n");
    let sources = Sources {
        file: Some(file.clone()),
        env_file: Some(scratch.file(".env", "app_host=1.2.3.4\n")),
        environment: environment(&[("JWT_ACCESS_TTL_SECS", "5"), ("TRUSTED_PROXY_IPS", "10.0.0.0/8, home")])
            .environment,
        ..Sources::default()
    };
    let error = Config::load(&sources).unwrap_err().to_string();
    let file = file.display();
    for part in [
        "the configuration has 6 problems".to_owned(),
        format!(
            "RATE_LIMT_BURST ({file}): is not a configuration key\n    fix: did you mean RATE_LIMIT_BURST?"
        ),
        format!(
            "APP_PORT ({file}): \"80a\" is not a whole number\n    fix: give a whole number from 0 to 65535"
        ),
        format!("models ({file}): is a table"),
        "fix: did you mean APP_HOST?".to_owned(),
        "JWT_ACCESS_TTL_SECS (environment): \"5\" is out of bounds".to_owned(),
        "TRUSTED_PROXY_IPS (environment): \"10.0.0.0/8, home\" contains \"home\", which is no network"
            .to_owned(),
    ] {
        assert!(error.contains(&part), "{part}\n--- is not in ---\n{error}");
    }
}

#[test]
fn names_of_others_in_the_environment_are_left_alone() {
    assert_eq!(
        problems(&environment(&[("PATH", "/bin"), ("OLLAMA_HOST", "x"), ("RUST_BACKTRACE", "1")])),
        []
    );
}

#[test]
fn a_misspelt_name_in_the_environment_is_told_with_a_way_out() {
    for (name, meant) in [
        ("SIGNUP_MOD", "SIGNUP_MODE"),
        ("DATBASE_URL", "DATABASE_URL"),
        ("JWT_SECERT", "JWT_SECRET"),
        ("JWT_SECERT_FILE", "JWT_SECRET"),
        ("TRUSTED_PROXIES", "TRUSTED_PROXY_IPS"),
        ("LOGIN_PER_MINUTE", "LOG_IN_PER_MINUTE"),
        ("app_port", "APP_PORT"),
    ] {
        let told = only(&[(name, "canary7391")]);
        assert!(told.starts_with(&format!("{name} (environment): is not a configuration key")), "{told}");
        assert!(told.contains(&format!("did you mean {meant}?")), "{told}");
        assert!(told.contains(&format!("env -u {name} ")) && !told.contains("canary7391"), "{told}");
        assert_eq!(problems(&environment(&[(name, "")])), [], "an empty {name} asks for nothing");
    }
}

#[test]
fn other_ways_to_a_database_need_the_database() {
    let way = "postgres://ada:four-canary-words@db/deeper";
    for name in ["DATABASE_READ_URL", "MIGRATE_DATABASE_URL"] {
        let told = only(&[(name, way)]);
        assert!(told.contains("is set without DATABASE_URL") && !told.contains("canary"), "{told}");
        assert_eq!(problems(&environment(&[(name, way), ("DATABASE_URL", way)])), []);
        let sample =
            [(name, "postgres://ada:postgres@db/deeper"), ("DATABASE_URL", way), ("APP_ENV", "production")];
        assert!(only(&sample).starts_with(&format!("{name}: holds a sample password")), "{}", only(&sample));
    }
}

#[test]
fn a_secret_comes_from_a_file_as_well() {
    let scratch = Scratch::new();
    let path = scratch.file("jwt", &format!("{GOOD_SECRET}\n"));
    let path = path.to_str().unwrap();
    let config = Config::load(&environment(&[("JWT_SECRET_FILE", path)])).unwrap();
    assert_eq!(config.system.auth.secret.unwrap().reveal(), GOOD_SECRET);

    let both = only(&[("JWT_SECRET_FILE", path), ("JWT_SECRET", GOOD_SECRET)]);
    assert!(both.contains("JWT_SECRET is set too"), "{both}");
    assert!(only(&[("JWT_SECRET_FILE", "/nonexistent")]).contains("cannot read /nonexistent"));
    let empty = scratch.file("empty", "\n");
    assert!(only(&[("DATABASE_URL_FILE", empty.to_str().unwrap())]).contains("is empty"));

    // A plain key has no file form, and a later source's secret wins in either form.
    let sources = Sources {
        env_file: Some(scratch.file(".env", "JWT_SECRET=short\n")),
        ..environment(&[("JWT_SECRET_FILE", path)])
    };
    assert_eq!(Config::load(&sources).unwrap().system.auth.secret.unwrap().reveal(), GOOD_SECRET);
    let sources = Sources { flags: vec![("APP_PORT_FILE".into(), "x".into())], ..Sources::default() };
    assert!(problems(&sources)[0].what.contains("is not a configuration key"));
}

#[test]
fn what_is_no_regular_file_is_refused_unopened() {
    let scratch = Scratch::new();
    let pipe = scratch.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let secret = environment(&[("JWT_SECRET_FILE", pipe.to_str().unwrap())]);
    let file = Sources { file: Some(pipe.clone()), ..Sources::default() };
    let env_file = Sources { env_file: Some(pipe), ..Sources::default() };
    // Whoever opens the pipe never comes back.
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        [secret, file, env_file].map(|sources| tell.send(problems(&sources)).unwrap())
    });
    for _ in 0..3 {
        let problems = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].what.ends_with("it is no regular file"), "{}", problems[0]);
        assert_ne!(problems[0].fix, "");
    }
}

#[test]
fn a08_empty_short_and_sample_secrets_are_refused_everywhere() {
    assert!(only(&[("JWT_SECRET", "")]).contains("is set, but empty"));
    assert!(only(&[("JWT_SECRET", "  ")]).contains("is set, but empty"));
    let regular = "abc".repeat(20);
    for secret in ["short", "your-256-bit-secret", "change-me-change-me-change-me-change-me", &regular] {
        let problem = only(&[("JWT_SECRET", secret)]);
        assert!(problem.starts_with("JWT_SECRET") && problem.contains("openssl rand"), "{problem}");
    }
    assert_eq!(problems(&environment(&[("JWT_SECRET", GOOD_SECRET)])), []);
}

#[test]
fn production_refuses_what_is_fine_at_home() {
    let database = "postgres://deeper:Postgres@db/deeper";
    let home = [("DEMO_MODEL", "true"), ("DATABASE_URL", database), ("APP_ENV", "test")];
    assert_eq!(problems(&environment(&home)), []);
    let mut production = home;
    production[2] = ("APP_ENV", "production");
    let keys: Vec<_> = problems(&environment(&production)).into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["DEMO_MODEL", "DATABASE_URL"]);
    assert_eq!(
        problems(&environment(&[("APP_ENV", "production")])),
        [],
        "SQLite and a generated secret are fine"
    );
}

#[test]
fn several_instances_need_a_shared_store_and_secret() {
    let two = problems(&environment(&[("INSTANCE_COUNT", "2")]));
    assert_eq!(two.len(), 2);
    assert!(only(&[("INSTANCE_COUNT", "two")]).contains("is not a whole number"));
    let shared = [("INSTANCE_COUNT", "2"), ("JWT_SECRET", GOOD_SECRET), ("DATABASE_URL", "postgres://db/x")];
    assert_eq!(problems(&environment(&shared)), []);
    let limited = [&shared[..], &[("OLLAMA_MAX_LOADED_MODELS", "1")]].concat();
    assert!(only(&limited).contains("unload each other's models"));
}

#[test]
fn no_limit_of_loaded_models_is_written_as_ollama_writes_it() {
    let limit = |text| {
        let sources = environment(&[("OLLAMA_MAX_LOADED_MODELS", text)]);
        Config::load(&sources).unwrap().system.model.max_loaded
    };
    assert_eq!((limit("0"), limit("2")), (None, Some(2)));
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    assert!(only(&[("JWT_REFRESH_TTL_SECS", "600")]).contains("access would outlive its session"));
    assert!(only(&[("SESSION_MAX_SECS", "86400")]).contains("JWT_REFRESH_TTL_SECS"));
    assert!(
        only(&[("MODEL_QUEUE_LIMIT", "8"), ("MODEL_QUEUE_PER_USER", "9")]).contains("MODEL_QUEUE_PER_USER")
    );
    assert!(only(&[("OPS_BIND", "127.0.0.1:8080")]).contains("is the address of the service"));
    assert!(only(&[("OLLAMA_BASE_URL", ",")]).contains("names no model server"));
}

#[test]
fn a_queue_narrowed_alone_narrows_the_default_of_its_users() {
    let model = Config::load(&environment(&[("MODEL_QUEUE_LIMIT", "8")])).unwrap().system.model;
    assert_eq!((model.queue_limit, model.queue_per_user), (8, 8));
}

#[test]
fn a03_hashes_weaker_than_owasps_least_are_refused() {
    for (memory, passes) in [("19456", "1"), ("12288", "2"), ("47103", "1")] {
        let weak = only(&[("PASSWORD_HASH_MEMORY_KIB", memory), ("PASSWORD_HASH_PASSES", passes)]);
        assert!(weak.contains("weaker than OWASP's least") && weak.contains("fix: give at least"), "{weak}");
    }
    for (memory, passes) in [("47104", "1"), ("12288", "3"), ("65536", "3")] {
        let settings = [("PASSWORD_HASH_MEMORY_KIB", memory), ("PASSWORD_HASH_PASSES", passes)];
        let cost = Config::load(&environment(&settings)).unwrap().system.password.cost;
        assert_eq!((cost.memory_kib.to_string(), cost.passes.to_string()), (memory.into(), passes.into()));
    }
    assert!(only(&[("PASSWORD_HASH_MEMORY_KIB", "1024")]).contains("from 12288 to 65536"));
}

#[test]
fn a01_a05_passwords_may_have_to_be_longer_and_sign_up_may_be_narrowed() {
    let auth = |pairs: &[_]| Config::load(&environment(pairs)).unwrap().system.auth;
    assert_eq!(auth(&[("PASSWORD_MIN_LENGTH", "15")]).password_min_chars, 15);
    for length in ["7", "65"] {
        assert!(only(&[("PASSWORD_MIN_LENGTH", length)]).contains("from 8 to 64"), "{length}");
    }
    for (mode, sign_up) in [("open", SignUp::Open), ("invite", SignUp::Invite), ("closed", SignUp::Closed)] {
        assert_eq!(auth(&[("SIGNUP_MODE", mode)]).sign_up, sign_up);
    }
    assert!(only(&[("SIGNUP_MODE", "off")]).contains("open, invite, closed"));
}

#[test]
fn b10_only_exact_origins_are_taken() {
    let config =
        Config::load(&environment(&[("ALLOWED_ORIGINS", "https://a.example, http://localhost:5173")]));
    let origins = ["https://a.example", "http://localhost:5173"].map(|text| text.parse().unwrap());
    assert_eq!(config.unwrap().http.allowed_origins, origins);
    for origin in [
        "*",
        "null",
        "https://a.example/",
        "https://*.example",
        "a.example",
        "HTTPS://a.example",
        "https://a:443",
    ] {
        assert!(only(&[("ALLOWED_ORIGINS", origin)]).contains("which is no origin"), "{origin}");
    }
}

#[test]
fn ollama_servers_are_named_by_their_place_and_one_may_be_named_twice() {
    let config = Config::load(&environment(&[
        ("OLLAMA_BASE_URL", "http://a:11434/, http://a:11434, http://b:11434, http://c"),
        ("DEMO_MODEL", "true"),
    ]));
    let upstreams = config.unwrap().system.model.upstreams;
    let names: Vec<_> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["ollama", "ollama-2", "ollama-3", "demo"]);
    assert_eq!(upstreams[0].kind, UpstreamKind::Ollama { base_url: "http://a:11434".to_owned() });
    for url in ["https://a", "a:11434", "http://", "ftp://a", "http://a?x=1"] {
        assert!(only(&[("OLLAMA_BASE_URL", url)]).starts_with("OLLAMA_BASE_URL (environment)"), "{url}");
    }
}

#[test]
fn single_models_have_their_own_slots_by_any_spelling_of_their_name() {
    let load = |pairs: &[_]| Config::load(&environment(pairs)).unwrap().system.model;
    let name = |text| domain::model_name::ModelName::parse(text).unwrap().canonical();
    let model = load(&[("OLLAMA_NUM_PARALLEL", "3"), ("MODEL_SLOTS", "llama3.2=4, Library/qwen3:8b = 2")]);
    let slots = ["llama3.2:latest", "qwen3:8b", "other"].map(|text| model.slots(&name(text)));
    assert_eq!(slots, [4, 2, 3]);
    let shared = [("INSTANCE_COUNT", "3"), ("JWT_SECRET", GOOD_SECRET), ("DATABASE_URL", "postgres://db/x")];
    let divided = load(&[&shared[..], &[("MODEL_SLOTS", "llama3.2=7,qwen3:8b=1")]].concat());
    let slots = ["llama3.2", "qwen3:8b", "other"].map(|text| divided.slots(&name(text)));
    assert_eq!(slots, [2, 1, 1], "divided by the instances, but never below one");
    for text in ["llama3.2", "llama3.2=", "llama3.2=0", "llama3.2=1025", "llama3.2=x", "=3", "a b=3"] {
        let problem = only(&[("MODEL_SLOTS", text)]);
        assert!(
            problem.starts_with("MODEL_SLOTS (environment)") && problem.contains("fix: give"),
            "{problem}"
        );
    }
    let twice = only(&[("MODEL_SLOTS", "llama3.2=4,llama3.2:latest=2")]);
    assert!(twice.contains("names llama3.2:latest twice"), "{twice}");

    let adaptive = load(&[("MODEL_ADAPTIVE", "LLAMA3.2, qwen3:8b")]).adaptive;
    assert_eq!(adaptive, ["llama3.2", "qwen3:8b"].map(name).into());
    assert!(only(&[("MODEL_ADAPTIVE", "../x")]).contains("which is no model's name"));
}

#[test]
fn g12_an_operations_address_that_others_reach_needs_a_token_that_is_a_good_one_and_its_own() {
    const TOKEN: &str = "hV2kQ9wZ4tR7mX1cL8bN5sF3dG6jP0yA-ops";
    let load = |pairs: &[_]| Config::load(&environment(pairs)).unwrap().http.ops;
    let open = load(&[]);
    assert_eq!((open.chosen(), open.token()), (None, None));
    for address in ["0.0.0.0:9464", "[::]:9464", "10.1.2.3:9464"] {
        let problem = only(&[("OPS_BIND", address)]);
        assert!(problem.starts_with("OPS_BIND (environment)"), "{problem}");
        assert!(problem.contains("asks for no token") && problem.contains("set OPS_TOKEN"), "{problem}");
        let guarded = load(&[("OPS_BIND", address), ("OPS_TOKEN", TOKEN)]);
        assert_eq!(guarded.chosen().unwrap().to_string(), address);
        assert!(guarded.token().unwrap().admits(TOKEN));
    }
    assert!(load(&[("OPS_TOKEN", TOKEN)]).token().is_some(), "also where only this machine asks");
    let spaced = format!("{TOKEN} x");
    for weak in ["short", "change-me-to-32-random-bytes-please", &"ab12".repeat(12), &spaced] {
        let problem = only(&[("OPS_TOKEN", weak)]);
        assert!(problem.starts_with("OPS_TOKEN") && problem.contains("openssl rand"), "{problem}");
        assert!(!problem.contains(weak), "{problem}");
    }
    assert!(only(&[("OPS_TOKEN", "")]).contains("is set, but empty"));
    let same = only(&[("OPS_TOKEN", GOOD_SECRET), ("JWT_SECRET", GOOD_SECRET)]);
    assert!(same.contains("is the same as JWT_SECRET"), "{same}");
    assert!(only(&[("OPS_BIND", "localhost:9464")]).contains("is not an address with a port"));
}

#[test]
fn the_former_name_of_the_operations_address_still_works() {
    let config = Config::load(&environment(&[("PROMETHEUS_BIND", "127.0.0.1:9000")])).unwrap();
    assert_eq!(config.http.ops.chosen().unwrap().to_string(), "127.0.0.1:9000");
    assert!(only(&[("PROMETHEUS_BIND", "[::1]:1"), ("OPS_BIND", "[::1]:2")]).contains("is set too"));
}

#[test]
fn f04_no_problem_and_no_report_repeats_a_secret() {
    const CANARY: &str = "canary7391";
    let scratch = Scratch::new();
    let sources = Sources {
        file: Some(scratch.file("c.toml", &format!("JWT_SECRET = \"{CANARY}\nx"))),
        env_file: Some(scratch.file(".env", &format!("JWT_SECRET={CANARY} {CANARY}\n"))),
        ..environment(&[
            ("DATABASE_URL", CANARY),
            ("JWT_SECRET", CANARY),
            ("OLLAMA_BASE_URL", &format!("http://u:a/{CANARY}@h")),
        ])
    };
    let (settings, config) = Config::examine(&sources);
    assert!(!report(&settings).contains(CANARY));
    let error = config.unwrap_err();
    assert_eq!(error.0.len(), 5, "{error}");
    assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");

    let (settings, config) = Config::examine(&environment(&[("JWT_SECRET", GOOD_SECRET)]));
    let report = report(&settings);
    assert!(report.contains("[secret, 36 bytes]"), "{report}");
    assert!(!report.contains(GOOD_SECRET) && !format!("{config:?}").contains(GOOD_SECRET));
}

#[test]
fn a_collector_is_named_by_scheme_and_host_and_a_share_is_no_more_than_all() {
    for good in ["http://127.0.0.1:4317", "https://collector.example.org", "http://[::1]:4317/"] {
        let config = Config::load(&environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", good)])).unwrap();
        assert_eq!(config.trace.endpoint.as_deref(), Some(good));
    }
    for bad in [
        "collector:4317",
        "4317",
        "grpc://collector",
        "http://",
        "http://a/v1/traces",
        "http://a?x",
        "http://u:p@a",
    ] {
        let told = only(&[("OTEL_EXPORTER_OTLP_ENDPOINT", bad)]);
        assert!(told.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && !told.contains("u:p"), "{bad}: {told}");
    }
    for (text, share) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0)] {
        let config = Config::load(&environment(&[("OTEL_TRACES_SAMPLER_ARG", text)])).unwrap();
        assert!((config.trace.share - share).abs() < f64::EPSILON, "{text}");
    }
    for bad in ["-0.1", "1.01", "NaN", "inf", "half", "10%"] {
        assert!(only(&[("OTEL_TRACES_SAMPLER_ARG", bad)]).contains("from 0 to 1"), "{bad}");
    }
}

#[test]
fn servers_are_named_with_their_kind_address_and_weight() {
    let load = |pairs: &[_]| Config::load(&environment(pairs)).unwrap().system.model.upstreams;
    let text = "gpu1 ollama http://10.0.0.1:11434/ weight=2,\n  spare-2   ollama http://gpu2 ";
    let ollama = |url: &str| UpstreamKind::Ollama { base_url: url.to_owned() };
    let servers = load(&[("UPSTREAMS", text), ("OLLAMA_BASE_URL", "http://not-looked-at")]);
    let told: Vec<_> = servers.iter().map(|one| (one.name.as_str(), one.kind.clone(), one.weight)).collect();
    assert_eq!(told, [("gpu1", ollama("http://10.0.0.1:11434"), 2), ("spare-2", ollama("http://gpu2"), 1)]);
    let hosted = load(&[
        ("UPSTREAMS", "hosted openai https://llm.example/v1/ weight=100, open openai http://vllm:8000/v1"),
        ("UPSTREAM_API_KEYS", "hosted = sk-one=two"),
    ]);
    let openai = |url: &str, key: Option<&str>| {
        let key = key.map(|key| domain::secret::Secret::new(key.to_owned()));
        UpstreamKind::OpenAi { base_url: url.to_owned(), key }
    };
    assert_eq!(hosted[0].kind, openai("https://llm.example/v1", Some("sk-one=two")));
    assert_eq!(hosted[1].kind, openai("http://vllm:8000/v1", None));
    assert!(!format!("{hosted:?}").contains("sk-one"));
    let with_demo = load(&[("UPSTREAMS", text), ("DEMO_MODEL", "true")]);
    assert_eq!(with_demo.last().unwrap().name, "demo");

    for (text, what) in [
        ("gpu1", "is not a name, a kind and an address"),
        ("gpu1 ollama", "is not a name, a kind and an address"),
        ("GPU ollama http://a", "is no server's name"),
        ("a_b ollama http://a", "is no server's name"),
        ("a vllm http://a", "is no kind of server"),
        ("a ollama https://a", "spoken to without TLS"),
        ("a ollama http://a weight=0", "after the address of a"),
        ("a ollama http://a weight=101", "after the address of a"),
        ("a ollama http://a heavy", "after the address of a"),
        ("a ollama http://a weight=2 weight=3", "at the end of a"),
        ("a ollama http://a, a ollama http://b", "names a twice"),
        ("a ollama http://a, b ollama http://a/", "the same address"),
        ("a openai llm.example/v1", "is no URL"),
        ("a openai https://llm.example/v1?x=1", "is no base address"),
    ] {
        let told = problems(&environment(&[("UPSTREAMS", text)]));
        let told = told.first().unwrap_or_else(|| panic!("{text} is fine")).to_string();
        assert!(told.starts_with("UPSTREAMS (environment)") && told.contains(what), "{text}: {told}");
    }
    let secret = only(&[("UPSTREAMS", "a ollama http://b, c ollama http://u:canary@d")]);
    assert!(secret.contains("contains credentials") && !secret.contains("canary"), "{secret}");
    let demo = only(&[("UPSTREAMS", "demo ollama http://a"), ("DEMO_MODEL", "true")]);
    assert!(demo.contains("the built-in model of DEMO_MODEL"), "{demo}");
    let many: Vec<_> = (0..=UPSTREAMS_MAX).map(|place| format!("s{place} ollama http://h{place}")).collect();
    assert!(only(&[("UPSTREAMS", &many.join(","))]).contains("names 33 servers"));
    assert_eq!(load(&[("UPSTREAMS", &many[1..].join(","))]).len(), UPSTREAMS_MAX);
}

#[test]
fn all_that_is_wrong_with_servers_and_their_keys_is_told_at_once_and_no_key_is() {
    let told = problems(&environment(&[
        ("UPSTREAMS", "Bad ollama http://a, b ollama http://b weight=x, c what http://c"),
        ("UPSTREAM_API_KEYS", "canary1, b=canary2, c=canary 3, d="),
    ]));
    let keys: Vec<_> = told.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys.iter().filter(|key| **key == "UPSTREAMS").count(), 3, "{told:#?}");
    assert_eq!(keys.iter().filter(|key| **key == "UPSTREAM_API_KEYS").count(), 4, "{told:#?}");
    assert!(!format!("{told:?}").contains("canary"), "{told:#?}");
}

#[test]
fn who_may_ask_what_by_which_names_and_for_how_much_is_read_by_any_spelling() {
    let load = |pairs: &[_]| Config::load(&environment(pairs)).unwrap().system.model;
    let name = |text| domain::model_name::ModelName::parse(text).unwrap().canonical();
    let model = load(&[
        ("USER_MODELS", "LLAMA3.2, qwen3:*"),
        ("ADMIN_MODELS", "-"),
        ("MODEL_ALIASES", "fast = QWEN3:8b then library/llama3.2, smart = x"),
        ("MAX_OUTPUT_TOKENS", "500"),
        ("MODEL_MAX_OUTPUT_TOKENS", "LLAMA3.2=20"),
    ]);
    assert_eq!(model.role_models.users.to_string(), "llama3.2:latest,qwen3:*");
    assert_eq!(model.role_models.admins.to_string(), "");
    assert_eq!(model.aliases.get(&name("fast")).unwrap().targets, [name("qwen3:8b"), name("llama3.2")]);
    assert_eq!(["llama3.2:local", "other"].map(|text| model.answer_tokens(&name(text))), [20, 500]);
    assert_eq!(load(&[]).role_models.users.to_string(), "*");
    let many = vec!["m"; 65].iter().enumerate().map(|(n, m)| format!("{m}{n},")).collect::<String>();
    for (key, text) in [
        ("USER_MODELS", "a b"),
        ("USER_MODELS", "library/*"),
        ("ADMIN_MODELS", many.as_str()),
        ("MODEL_ALIASES", "fast"),
        ("MODEL_ALIASES", "a = b, b = a"),
        ("MODEL_ALIASES", "x:cloud = a"),
        ("MAX_OUTPUT_TOKENS", "0"),
        ("MAX_OUTPUT_TOKENS", "131073"),
        ("MODEL_MAX_OUTPUT_TOKENS", "llama3.2=131073"),
        ("MODEL_MAX_OUTPUT_TOKENS", "llama3.2=1,LLAMA3.2=2"),
    ] {
        let problem = only(&[(key, text)]);
        assert!(
            problem.starts_with(&format!("{key} (environment)")) && problem.contains("fix: "),
            "{problem}"
        );
    }
}
