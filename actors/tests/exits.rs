//! What the log says of exits and panics. Its own binary: there is one panic hook and one log per process.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use actors::{
    handle::AskError,
    supervisor::{ChildSpec, Policy, Root, caught, child_name, silence_panic_hook, spawn_child},
    tree::Tree,
};
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, registry::where_is};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

type Line = (Level, BTreeMap<&'static str, String>);

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// Installs the log and the hook, once for all tests of this binary.
static LISTENING: LazyLock<()> = LazyLock::new(|| {
    silence_panic_hook();
    silence_panic_hook(); // a second call changes nothing
    // Whoever is first wins; there is nobody else.
    let _ = tracing::subscriber::set_global_default(Lines);
});

/// Takes the lines that have `value` in the field `name`.
fn lines_with(name: &str, value: &str) -> Vec<Line> {
    let is_it = |(_, fields): &Line| fields.get(name).is_some_and(|text| text.contains(value));
    LINES.lock().extract_if(.., |line| is_it(line)).collect()
}

struct Lines;

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("actors")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        LINES.lock().push((*event.metadata().level(), fields));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Bomb;

enum Fuse {
    Panic,
    Fail,
    Leave,
}

impl Actor for Bomb {
    type Msg = Fuse;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Fuse>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, me: ActorRef<Fuse>, fuse: Fuse, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match fuse {
            #[expect(clippy::panic, reason = "the panic is what is tested")]
            Fuse::Panic => panic!("the bomb went off"),
            Fuse::Fail => return Err("the bomb is wet".into()),
            Fuse::Leave => me.stop(None),
        }
        Ok(())
    }
}

async fn bomb(system: &'static str, id: &'static str) -> Result<Root, SpawnErr> {
    LazyLock::force(&LISTENING);
    let child = ChildSpec::leaf(id, move |supervisor| async move {
        Ok(spawn_child(&supervisor, child_name(system, id), Bomb, ()).await?.get_cell())
    });
    Root::start(system, Policy::default(), vec![child], Tree::new()).await
}

/// Lights the bomb and waits until its supervisor has dealt with the end.
async fn light(root: &Root, bomb: &ActorCell, fuse: Fuse) -> Result<(), AskError> {
    bomb.send_message(fuse).map_err(|_| AskError::Down)?;
    bomb.wait(None).await.map_err(|_| AskError::Timeout)?;
    root.handle().barrier().await
}

#[tokio::test(start_paused = true)]
async fn every_exit_is_one_line_that_says_who_why_and_what_next() {
    let root = bomb("exit_lines", "who_and_why").await.unwrap();
    let mut ids = Vec::new();
    for fuse in [Fuse::Panic, Fuse::Fail, Fuse::Leave] {
        let bomb = where_is("exit_lines/who_and_why").unwrap();
        ids.push(bomb.get_id().to_string());
        light(&root, &bomb, fuse).await.unwrap();
        tokio::time::sleep(Policy::default().backoff_max).await;
    }
    ids.push(where_is("exit_lines/who_and_why").unwrap().get_id().to_string());
    root.stop().await;

    let mut lines = lines_with("actor", "who_and_why");
    let returns: Vec<_> = lines.extract_if(.., |(_, fields)| fields["event"] == "actor_returned").collect();
    assert_eq!(returns.len(), 3, "each that fell is back: {returns:?}");
    let expected = [
        (Level::ERROR, "panicked: the bomb went off at", "restart", "100", "1"),
        (Level::ERROR, "the bomb is wet", "restart", "200", "2"),
        (Level::INFO, "stopped", "restart", "400", "3"),
        (Level::DEBUG, "stopped: asked to stop", "stop", "0", "0"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (((level, fields), expected), id) in lines.iter().zip(expected).zip(ids) {
        let (wanted, cause, decision, backoff_ms, restarts) = expected;
        assert_eq!(*level, wanted);
        assert!(fields["cause"].starts_with(cause), "{fields:?}");
        let rest = ["actor", "actor_id", "decision", "backoff_ms", "restarts_in_window"];
        let wanted = ["who_and_why", &id, decision, backoff_ms, restarts];
        assert_eq!(rest.map(|name| fields[name].as_str()), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn an_actors_panic_says_where_it_happened_on_the_line_of_its_exit() {
    let root = bomb("panic_place", "where").await.unwrap();
    light(&root, &where_is("panic_place/where").unwrap(), Fuse::Panic).await.unwrap();
    let lines = lines_with("actor", "where");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let place = concat!("panicked: the bomb went off at ", file!(), ":");
    assert!(lines[0].1["cause"].starts_with(place), "{lines:?}");
    let is_said_twice = LINES
        .lock()
        .iter()
        .any(|(_, fields)| !fields.contains_key("actor") && fields["cause"].contains("the bomb went off"));
    assert!(!is_said_twice);
    root.stop().await;
}

#[tokio::test]
async fn a_panic_outside_an_actor_is_one_line_and_one_that_is_caught_is_none() {
    LazyLock::force(&LISTENING);
    assert!(std::thread::spawn(|| panic!("a thread of its own")).join().is_err());
    let lines = lines_with("cause", "a thread of its own");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].0 == Level::ERROR && lines[0].1["place"].starts_with(file!()), "{lines:?}");

    let result = caught(async { panic!("in a future") }).await;
    let cause = result.map(|(): ()| ()).unwrap_err();
    assert!(cause.starts_with(concat!("panicked: in a future at ", file!())), "{cause}");
    assert!(lines_with("cause", "in a future").is_empty(), "who catches it says it");
}
