//! One whole service of one test, and the accounts that use it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use actors::{
    admin::{AdminError, with_accounts},
    auth::{Administrator, AuthError, AuthHandle},
    clock::Clock,
    db::DbConfig,
    system::System,
};
use deepersensor::{
    app::App,
    config::{Config, Sources},
    control::Setup,
    http::OpsDoor,
};
use domain::{principal::Role, secret::Secret, signing_key::SigningAlgorithm};
use serde_json::{Value, json};
use support::{
    fake_ollama::{self, FakeOllama, Model},
    fault_proxy::FaultProxy,
    postgres::Cluster,
    process::Scratch,
};
use tokio::time::timeout;

use super::{Call, Database, PATIENCE, Store, canaries, leftovers, scripts::Roles};

/// Drawn once for these tests; [`crate::auth`] forges tokens with it.
pub(crate) const SECRET: &str = "Zk7rQ2vX9mB4tL8sW1yC6hN3dF5gJ0pA-it";

/// Passes every rule for passwords.
pub(crate) const PASSWORD: &str = "seven quiet herons";

/// A model with four slots that answers at once.
pub(crate) const MODEL: &str = "qwen3:8b";

type Tune = Box<dyn FnOnce(&mut Config)>;

/// How a service is started. Limits per caller are out of the way unless a test sets them, and each call comes from a
/// network of its own, as if the harness were a proxy that the service trusts.
pub(crate) struct Options {
    store: Store,
    ollama: fake_ollama::Config,
    settings: BTreeMap<String, String>,
    is_ollama_proxied: bool,
    is_postgres_proxied: bool,
    is_by_app_role: bool,
    is_reloadable: bool,
    tune: Vec<Tune>,
}

impl Options {
    pub(crate) fn on(store: Store) -> Self {
        let settings = [
            ("APP_ENV", "test"),
            ("APP_PORT", "0"),
            ("JWT_SECRET", SECRET),
            ("OLLAMA_NUM_PARALLEL", "4"),
            ("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000000"),
            ("RATE_LIMIT_BURST", "1000000"),
            ("STREAMS_PER_USER", "1000000"),
            ("TRUSTED_PROXY_IPS", "127.0.0.1/32"),
        ];
        Self {
            store,
            ollama: fake_ollama::Config::with([Model::new(MODEL).parallel(4)]),
            settings: settings.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
            is_ollama_proxied: false,
            is_postgres_proxied: false,
            is_by_app_role: false,
            is_reloadable: false,
            tune: Vec::new(),
        }
    }

    /// What the fake Ollama offers, in place of [`MODEL`].
    pub(crate) fn models(mut self, models: impl IntoIterator<Item = Model>) -> Self {
        self.ollama.models = models.into_iter().collect();
        self
    }

    /// Sets a configuration key as the environment would.
    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Leaves a configuration key out, as most people would.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Puts [`TestApp::ollama_proxy`] between the service and its Ollama.
    pub(crate) fn ollama_through_a_proxy(mut self) -> Self {
        self.is_ollama_proxied = true;
        self
    }

    /// Puts [`TestApp::postgres_proxy`] between the service and its Postgres.
    pub(crate) fn postgres_through_a_proxy(mut self) -> Self {
        self.is_postgres_proxied = true;
        self
    }

    /// Serves by a role that may only read and change rows, on a Postgres that belongs to another role.
    pub(crate) fn by_the_app_role(mut self) -> Self {
        self.is_by_app_role = true;
        self
    }

    /// Keeps the settings in a file that the service reads again: [`TestApp::write_setting`].
    pub(crate) fn reloadable(mut self) -> Self {
        self.is_reloadable = true;
        self
    }

    /// Changes a bound that has no key, mostly a time that would make a test slow.
    pub(crate) fn tune(mut self, change: impl FnOnce(&mut Config) + 'static) -> Self {
        self.tune.push(Box::new(change));
        self
    }
}

/// A running service. [`TestApp::finish`] must end it.
pub(crate) struct TestApp {
    app: Option<App>,
    config: Config,
    pub(crate) ollama: FakeOllama,
    pub(crate) database: Database,
    ollama_proxy: Option<FaultProxy>,
    postgres_proxy: Option<FaultProxy>,
    /// What stands in the service's own file.
    settings: BTreeMap<String, String>,
    /// Removed when the test is over.
    scratch: Scratch,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) email: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl TestApp {
    pub(crate) async fn start(options: Options) -> Self {
        Self::try_start(options).await.unwrap()
    }

    /// Starts unless the configuration or the service refuses to.
    ///
    /// # Errors
    ///
    /// With what the operator is told.
    pub(crate) async fn try_start(options: Options) -> anyhow::Result<Self> {
        canaries::everywhere();
        let scratch = Scratch::new("it", None).unwrap();
        let data_dir = scratch.path().join("data");
        let database = Database::make(options.store, &data_dir).await;
        let ollama = FakeOllama::start(options.ollama).await.unwrap();
        let mut settings = options.settings;
        settings.insert("DATA_DIR".to_owned(), data_dir.display().to_string());

        let mut ollama_proxy = None;
        let mut upstream = ollama.addr();
        if options.is_ollama_proxied {
            let proxy = FaultProxy::start(upstream).await.unwrap();
            upstream = proxy.addr();
            ollama_proxy = Some(proxy);
        }
        settings.entry("OLLAMA_BASE_URL".to_owned()).or_insert_with(|| format!("http://{upstream}"));

        let mut postgres_proxy = None;
        if let Database::Postgres { name, url } = &database {
            let mut url = url.clone();
            if options.is_by_app_role {
                let roles = Roles::make(name, scratch.path()).await;
                url = roles.app;
                settings.insert("MIGRATE_DATABASE_URL".to_owned(), roles.owner);
            }
            if options.is_postgres_proxied {
                let server = Cluster::shared().await.unwrap().addr();
                let proxy = FaultProxy::start(server).await.unwrap();
                url = url.replace(&server.to_string(), &proxy.addr().to_string());
                postgres_proxy = Some(proxy);
            }
            settings.insert("DATABASE_URL".to_owned(), url);
        }

        let mut sources = Sources::default();
        if options.is_reloadable {
            sources.file = Some(settings_file(scratch.path()));
            write_settings(scratch.path(), &settings);
        } else {
            sources.environment = settings.clone();
        }
        let (found, config) = Config::examine(&sources);
        let mut config = config?;
        // Services of parallel tests must not fight for the one default.
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.http.ops = OpsDoor::new(Some(here), config.http.ops.token().cloned())?;
        // Nobody balances load between tests.
        config.http.drain_accept = Duration::ZERO;
        for change in options.tune {
            change(&mut config);
        }
        let setup = options.is_reloadable.then_some(Setup { sources, settings: found, log: None });
        let app = Some(timeout(PATIENCE, App::start_from(config.clone(), setup)).await.unwrap()?);
        Ok(Self { app, config, ollama, database, ollama_proxy, postgres_proxy, settings, scratch })
    }

    /// A service with the usual options.
    pub(crate) async fn on(store: Store) -> Self {
        Self::start(Options::on(store)).await
    }

    /// Puts a setting into the service's own file, for it to be read again.
    pub(crate) fn write_setting(&mut self, name: &str, value: impl ToString) {
        self.settings.insert(name.to_owned(), value.to_string());
        write_settings(self.scratch.path(), &self.settings);
    }

    fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// The database as the service reaches it.
    pub(crate) fn database_url(&self) -> &str {
        self.config.system.db.database_url.as_ref().expect("the options ask for Postgres").reveal()
    }

    /// How the next start reaches the store.
    pub(crate) fn database_config(&self) -> &DbConfig {
        &self.config.system.db
    }

    /// The rooms behind the front end.
    pub(crate) fn system(&self) -> &System {
        self.app().system()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.app().addr()
    }

    pub(crate) fn ops_addr(&self) -> SocketAddr {
        self.app().ops_addr()
    }

    /// What actors' names begin with.
    pub(crate) async fn system_name(&self) -> String {
        self.actors().await["system"].as_str().unwrap().to_owned()
    }

    pub(crate) fn ollama_proxy(&self) -> &FaultProxy {
        self.ollama_proxy.as_ref().expect("the options ask for a proxy")
    }

    pub(crate) fn postgres_proxy(&self) -> &FaultProxy {
        self.postgres_proxy.as_ref().expect("the options ask for a proxy and Postgres")
    }

    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.addr(), method, path)
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Call {
        self.call("POST", path).json(body)
    }

    /// A chat request that is answered whole.
    pub(crate) fn chat(&self, session: &Session, body: &Value) -> Call {
        self.post("/v1/chat", body).bearer(&session.access)
    }

    /// A chat request that is answered as it comes; [`Call::open`] it.
    pub(crate) fn stream(&self, session: &Session, body: &Value) -> Call {
        self.post("/v1/chat/stream", body).bearer(&session.access)
    }

    /// Creates an account with [`PASSWORD`] and signs it in: two requests of this address, none of the account's own.
    pub(crate) async fn sign_up_and_in(&self, email: &str) -> Session {
        let credentials = json!({"email": email, "password": PASSWORD});
        let created = self.post("/v1/auth/signup", &credentials).send().await.expect_status(201).json();
        self.sign_in(email, created["id"].as_str().unwrap()).await
    }

    /// Creates an administrator from the command line's side and signs it in.
    pub(crate) async fn administrator(&self, email: &str) -> Session {
        let password = Secret::new(PASSWORD.to_owned());
        let created = self
            .at_the_command_line(async |auth| auth.create_account(email, password, Role::Admin).await)
            .await;
        self.sign_in(email, &created.id.to_string()).await
    }

    /// Makes the next signing key from the command line's side; returns its `kid`.
    pub(crate) async fn rotate_key(&self, algorithm: Option<SigningAlgorithm>) -> String {
        let by = Administrator::default();
        self.at_the_command_line(async |auth| auth.rotate_signing_key(&by, algorithm).await).await.key.kid
    }

    /// Does what the command line does beside a running service.
    async fn at_the_command_line<T>(&self, verb: impl AsyncFnOnce(&AuthHandle) -> Result<T, AuthError>) -> T {
        // The names of its actors are the process's.
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one = ONE_AT_A_TIME.lock().await;
        let verb = async |auth: &AuthHandle| Ok(verb(auth).await?);
        let done = with_accounts::<_, AdminError>(self.config.system.clone(), Clock::system(), verb).await;
        done.unwrap()
    }

    /// Starts another service on the same store, with the same settings but for `change`; stop it before this one
    /// finishes.
    pub(crate) async fn start_twin(&self, change: impl FnOnce(&mut Config)) -> App {
        let mut config = self.config.clone();
        change(&mut config);
        timeout(PATIENCE, App::start(config)).await.unwrap().unwrap()
    }

    /// What the operator is told who starts this service, which is stopped, and is refused.
    pub(crate) async fn refused(&self) -> String {
        let refused = timeout(PATIENCE, App::start(self.config.clone())).await.unwrap();
        format!("{:#}", refused.err().expect("no start"))
    }

    /// Changes the settings of the next start and of the command line.
    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// Stops, and starts again on the same data with the same settings but for `change`.
    pub(crate) async fn restart(&mut self, change: impl FnOnce(&mut Config)) {
        self.stop().await;
        self.reconfigure(change);
        self.app = Some(self.start_twin(|_| ()).await);
    }

    /// Where the service keeps its files.
    pub(crate) fn data_dir(&self) -> &Path {
        self.config.data_dir()
    }

    /// Signs in whoever is known already.
    pub(crate) async fn sign_in(&self, email: &str, user: &str) -> Session {
        let credentials = json!({"email": email, "password": PASSWORD});
        let tokens = self.post("/v1/auth/login", &credentials).send().await.expect_status(200).json();
        let text = |name| tokens[name].as_str().unwrap().to_owned();
        let (access, refresh) = (text("access_token"), text("refresh_token"));
        Session { user: user.to_owned(), email: email.to_owned(), access, refresh }
    }

    /// Makes an API key with these scopes (`chat models`), and returns its id and itself.
    pub(crate) async fn create_key(&self, session: &Session, scopes: &str) -> (String, String) {
        let scopes: Vec<&str> = scopes.split(' ').collect();
        let wanted = self.post("/v1/api-keys", &json!({"name": "a key", "scopes": scopes}));
        let key = wanted.bearer(&session.access).send().await.expect_status(201).json();
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    /// An operator's call, with the token if there is one.
    pub(crate) fn ops(&self, path: &str) -> Call {
        let call = Call::new(self.ops_addr(), "GET", path);
        match self.config.http.ops.token() {
            Some(token) => call.bearer(token.secret().reveal()),
            None => call,
        }
    }

    /// The operators' metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.ops("/metrics").send().await.expect_status(200).text()
    }

    /// The operators' view of the tree.
    pub(crate) async fn actors(&self) -> Value {
        self.ops("/actors").send().await.expect_status(200).json()
    }

    /// Waits until nothing is under way in the service or at its Ollama.
    pub(crate) async fn quiet(&self) {
        leftovers::quiet(self).await;
    }

    /// Stops the service and leaves the store and the fake server to look at.
    pub(crate) async fn stop(&mut self) {
        if let Some(app) = self.app.take() {
            timeout(PATIENCE, app.stop()).await.expect("the service stops in time");
        }
    }

    /// Asserts that nothing is left under way, stops the service, and asserts that nothing is left open in the store and
    /// that no secret got out of anybody's hands.
    ///
    /// Heal what you broke before. A service that was stopped already is only looked at from outside.
    pub(crate) async fn finish(mut self) {
        if self.app.is_some() {
            self.quiet().await;
            canaries::assert_none("the metrics page", &self.metrics().await);
        }
        self.stop().await;
        leftovers::nothing_streams(&self).await;
        leftovers::no_secrets(&self.database).await;
        canaries::everywhere().assert_nothing_logged();
        self.database.clone().remove().await;
    }
}

fn settings_file(dir: &Path) -> PathBuf {
    dir.join("settings.toml")
}

fn write_settings(dir: &Path, settings: &BTreeMap<String, String>) {
    let lines = settings.iter().map(|(name, value)| format!("{name} = {value:?}\n"));
    std::fs::write(settings_file(dir), lines.collect::<String>()).unwrap();
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if self.app.is_some() && !std::thread::panicking() {
            panic!("a test must end with `finish`, which looks for what is left");
        }
    }
}
