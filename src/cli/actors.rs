//! `actors`: the live supervision tree of a running service, drawn.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use serde::Deserialize;

use super::{
    client::Client,
    local,
    terminal::{Terminal, harmless},
    watch,
};
use crate::{config::Config, http::HttpConfig};

const DEADLINE: Duration = Duration::from_secs(5);

/// The one node that is above all others without being part of their paths.
const ROOT: &str = "root";

#[derive(Debug, Args)]
pub(crate) struct ActorsArgs {
    /// Where the service answers operators; the configured OPS_BIND by default
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
    /// Go on and tell what happens, in a line each, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// What to do when nobody answers.
pub(super) const NO_SERVICE: &str =
    "is the service running here? Its first lines name its operations address: give it by --address";

pub(crate) async fn run(args: &ActorsArgs, config: &Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let door = &config.http.ops;
    let address = args.address.or(door.chosen()).unwrap_or(HttpConfig::OPS_DEFAULT);
    let client = |deadline| {
        let client = Client::new(local(address), deadline);
        match door.token() {
            Some(token) => client.with_token(token.secret().reveal()),
            None => client,
        }
    };
    if args.watch {
        return watch::run(client(watch::SILENCE), args.json, terminal).await;
    }
    let reply = client(DEADLINE).get("/actors").await.context(NO_SERVICE)?;
    let json = reply.json()?;
    if args.json {
        terminal.line(format!("{json:#}"))?;
    } else {
        let tree = serde_json::from_value(json).context("this is not the tree of a deepersensor service")?;
        terminal.write(draw(&tree, terminal))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `/actors` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Tree {
    system: String,
    nodes: Vec<Node>,
    gates: Vec<Gate>,
}

impl Tree {
    /// How it stands, in a few words.
    pub(super) fn state(&self) -> String {
        let count = |status: &str| self.nodes.iter().filter(|node| node.status == status).count();
        let (running, degraded) = (count("running"), count("degraded"));
        let down = self.nodes.len() - running - degraded;
        format!("{}: {running} actors run, {degraded} are degraded, {down} are down", self.system)
    }
}

#[derive(Debug, Deserialize)]
struct Node {
    path: String,
    status: String,
    restarts: u64,
    last_exit: Option<Exit>,
    uptime_seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Exit {
    cause: String,
    seconds_ago: f64,
}

#[derive(Debug, Deserialize)]
struct Gate {
    name: String,
    in_use: u64,
    capacity: u64,
    refused: u64,
}

fn draw(tree: &Tree, terminal: Terminal) -> String {
    let mut lines = Vec::new();
    descend(tree, &parents(tree), None, "", &mut lines);
    let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", terminal.bold(&harmless(&tree.system)));
    for (label, node) in lines {
        let _ = writeln!(text, "{label:width$}  {}", describe(node, terminal));
    }
    if !tree.gates.is_empty() {
        let width = tree.gates.iter().map(|gate| gate.name.len()).max().unwrap_or(0);
        let _ = write!(text, "\n{}\n", terminal.bold("gates"));
        for Gate { name, in_use, capacity, refused } in &tree.gates {
            let _ =
                writeln!(text, "{:width$}  {in_use} of {capacity} in use, {refused} refused", harmless(name));
        }
    }
    text
}

/// Adds the children of `parent`, each followed by its own, as (drawn label, node).
fn descend<'a>(
    tree: &'a Tree,
    parents: &BTreeMap<&'a str, Option<&'a str>>,
    parent: Option<&str>,
    indent: &str,
    lines: &mut Vec<(String, &'a Node)>,
) {
    let children: Vec<&Node> =
        tree.nodes.iter().filter(|node| parents.get(node.path.as_str()) == Some(&parent)).collect();
    for (i, node) in children.iter().enumerate() {
        let (knot, below) = if i + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let name =
            parent.and_then(|parent| node.path.strip_prefix(parent)?.strip_prefix('/')).unwrap_or(&node.path);
        lines.push((format!("{indent}{knot}{}", harmless(name)), node));
        descend(tree, parents, Some(&node.path), &format!("{indent}{below}"), lines);
    }
}

/// The nearest node above each node, the root above all others.
///
/// A model's name may itself hold slashes, so a parent's path need not be one part shorter.
fn parents(tree: &Tree) -> BTreeMap<&str, Option<&str>> {
    let root = tree.nodes.iter().map(|node| node.path.as_str()).find(|path| *path == ROOT);
    tree.nodes
        .iter()
        .map(|node| {
            let path = node.path.as_str();
            let above = tree
                .nodes
                .iter()
                .map(|other| other.path.as_str())
                .filter(|other| path.strip_prefix(other).is_some_and(|rest| rest.starts_with('/')))
                .max_by_key(|other| other.len());
            (path, above.or(root.filter(|_| path != ROOT)))
        })
        .collect()
}

fn describe(node: &Node, terminal: Terminal) -> String {
    let status = match node.status.as_str() {
        "running" => node.status.clone(),
        other => terminal.alarm(&harmless(other)),
    };
    let mut text = status;
    if let Some(uptime) = node.uptime_seconds {
        let _ = write!(text, " for {}", span(uptime));
    }
    let _ = match node.restarts {
        0 => Ok(()),
        1 => write!(text, ", restarted once"),
        n => write!(text, ", restarted {n} times"),
    };
    if let Some(exit) = &node.last_exit {
        let _ = write!(
            text,
            "{}",
            terminal.dim(&format!(", last exit {} ago: {}", span(exit.seconds_ago), harmless(&exit.cause)))
        );
    }
    text
}

/// A duration in its two largest units.
fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_drawn_with_state_restarts_uptime_and_gates() {
        let tree = serde_json::json!({
            "system": "deepersensor",
            "nodes": [
                {"path": "db_sup", "kind": "supervisor", "status": "running", "actor_id": "0.1", "restarts": 0,
                 "restarts_in_window": 0, "last_exit": null, "uptime_seconds": 3_725.2},
                {"path": "db_sup/writer-0", "kind": "leaf", "status": "degraded", "actor_id": null, "restarts": 6,
                 "restarts_in_window": 6, "uptime_seconds": null,
                 "last_exit": {"cause": "panicked: \u{1b}[2Jboom", "decision": "restart", "seconds_ago": 61.0}},
                {"path": "limits_sup/shard-9", "status": "running", "restarts": 0, "uptime_seconds": 1.0},
                {"path": "limits_sup/shard-10", "status": "running", "restarts": 0, "uptime_seconds": 1.0},
                {"path": "root", "status": "running", "restarts": 0, "uptime_seconds": 3_725.2},
                {"path": "models_sup", "kind": "supervisor", "status": "running", "restarts": 0,
                 "last_exit": null, "uptime_seconds": 59.9},
                {"path": "models_sup/me/x:q4/worker-0", "kind": "leaf", "status": "running", "restarts": 1,
                 "last_exit": null, "uptime_seconds": 90_000.0},
            ],
            "gates": [{"name": "reads", "in_use": 2, "capacity": 1_024, "refused": 7}],
        });
        let drawn = draw(&serde_json::from_value(tree).unwrap(), Terminal::plain());
        let expected = "\
deepersensor
└─ root                    running for 1h 2m
   ├─ db_sup               running for 1h 2m
   │  └─ writer-0          degraded, restarted 6 times, last exit 1m 1s ago: panicked: [2Jboom
   ├─ limits_sup/shard-9   running for 1s
   ├─ limits_sup/shard-10  running for 1s
   └─ models_sup           running for 59s
      └─ me/x:q4/worker-0  running for 1d 1h, restarted once

gates
reads  2 of 1024 in use, 7 refused
";
        assert_eq!(drawn, expected);
    }
}
