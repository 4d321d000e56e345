//! Real servers as child processes that never outlive the test process.
//!
//! Every child runs in a process group of its own, so that an interrupt at the terminal reaches the test first, and
//! has a *leash*: a shell that waits for the end of a pipe held by us. However the test process ends, also when it is
//! killed or a static was never dropped, the pipe ends with it, and the leash ends the child and removes its
//! directory. (The kernel's parent-death signal would fire when the *thread* that started the child ends, which in a
//! test binary is much too early.)

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

/// How often a child's end is looked for while somebody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits for a line or the end of stdin, then ends process `$1` and its children: signal `$2`, and `KILL` to those who
/// are still there two seconds later. At the end of stdin our process is gone, and directory `$3` goes too.
const LEASH: &str = r#"
children() { grep -lE "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | cut -d/ -f3; }
read -r word && ordered=yes
kill -CONT "$1" $(children "$1")
kill -s "$2" "$1"
left=100
while kill -0 "$1" && [ $left -gt 0 ]; do sleep 0.02; left=$((left - 1)); done
if [ $left -eq 0 ]; then
  kill -STOP "$1"
  kill -KILL "$1" $(children "$1")
fi
[ "$ordered" ] || rm -rf -- "$3"
"#;

/// Finds a program in `PATH` or in `extra` directories.
///
/// # Errors
///
/// Names the Debian package to install.
pub fn find_program(name: &str, extra: &[PathBuf], package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(extra.iter().cloned())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    found.with_context(|| format!("`{name}` is not installed: apt-get install {package}"))
}

/// A loopback port that was free a moment ago.
///
/// # Errors
///
/// When the machine has none.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Several of them, no two the same.
///
/// # Errors
///
/// As [`free_port`].
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    // Held together, so that the kernel gives out no port twice.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A user that servers run as which refuse to be root, or should not be.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// `None` unless we are root; else the first of `names` that exists, or `nobody`.
    ///
    /// # Errors
    ///
    /// When the user database cannot be read or has none of them.
    pub fn for_servers(names: &[&str]) -> Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let find = |name: &&str| {
            let fields: Vec<_> = users
                .lines()
                .map(|line| line.split(':').collect())
                .find(|fields: &Vec<_>| fields[0] == *name)?;
            Some(Self { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
        };
        let found = names.iter().chain(&["nobody"]).find_map(find);
        found.map(Some).with_context(|| format!("there is no user {names:?} or nobody to run a server as"))
    }
}

/// A temporary directory, removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory that belongs to `owner`.
    ///
    /// # Errors
    ///
    /// When the temporary directory is full or not writable.
    pub fn new(what: &str, owner: Option<Account>) -> Result<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, chown};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("deepersensor-{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let scratch = Self(path);
        if let Some(Account { uid, gid }) = owner {
            chown(&scratch.0, Some(uid), Some(gid))?;
        }
        Ok(scratch)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The leash tries again if a process still writes into it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running child and its leash. Dropping it ends the child with its own children, and waits for that.
#[derive(Debug)]
pub struct Service {
    child: Child,
    leash: Child,
}

impl Service {
    /// Starts `command` as `account`. `end_signal` (`TERM`, `QUIT`) is the one that makes it end soon and tidily; when
    /// our process ends, `scratch` is removed too.
    ///
    /// # Errors
    ///
    /// When the program or a shell cannot be started.
    pub fn start(
        mut command: Command,
        account: Option<Account>,
        scratch: &Scratch,
        end_signal: &str,
    ) -> Result<Self> {
        run_as(&mut command, account);
        command.process_group(0).stdin(Stdio::null()).current_dir(scratch.path());
        let mut child =
            command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let mut leash = Command::new("/bin/sh");
        leash.args(["-c", LEASH, "leash"]).arg(child.id().to_string()).arg(end_signal).arg(scratch.path());
        // Nobody may wait for the end of our output because of the leash.
        leash
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/");
        match leash.spawn() {
            Ok(leash) => Ok(Self { child, leash }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error).context("cannot start a shell")
            }
        }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills it and its children at once, as a power cut does.
    pub fn kill(mut self) {
        // Stopped first, it cannot replace a child that is killed. One that ends in between is not missed.
        let _ = signal("STOP", &[self.pid()]);
        let children = children_of(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in children {
            let _ = signal("KILL", &[child]);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it has not ended after `patience`.
    pub async fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let give_up = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > give_up {
                bail!("process {} still runs after {patience:?}", self.pid());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A line is the order to end the child, after which the wait is for two seconds at most.
            let _ = self.leash.stdin.take().map(|mut pipe| pipe.write_all(b"end\n"));
            let _ = self.child.wait();
        } else {
            // Its number may belong to another process by now.
            let _ = self.leash.kill();
        }
        let _ = self.leash.wait();
    }
}

/// A size that the kernel tells of a process in `/proc/PID/status` (`VmRSS`, `VmHWM`), in bytes.
///
/// # Errors
///
/// When the process is gone.
pub fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("the kernel does not tell {name} of process {pid}"))? * 1024)
}

/// The machine in a line, as far as it matters to the figures.
#[must_use]
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let models: Vec<_> = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map_or("unknown processor", |text| text.trim_start_matches(['\t', ' ', ':']));
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{} × {model}, Linux {}, load average before the run {}",
        models.len(),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    )
}

/// Makes `command` run as `account`.
pub fn run_as(command: &mut Command, account: Option<Account>) {
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}

/// Sends a signal by name (`TERM`, `STOP`) to processes we started.
///
/// # Errors
///
/// When one of them does not exist.
pub fn signal(name: &str, pids: &[u32]) -> Result<()> {
    // The shell's own `kill`: minimal images have no other.
    let script = format!("kill -{name} \"$@\"");
    let pids = pids.iter().map(u32::to_string);
    let status =
        Command::new("/bin/sh").args(["-c", &script, "kill"]).args(pids).stderr(Stdio::null()).status()?;
    if !status.success() {
        bail!("cannot send {name}: the process is gone");
    }
    Ok(())
}

/// The processes whose parent is `pid`.
#[must_use]
pub fn children_of(pid: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let is_child = |child: &u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name stands in parentheses and may hold anything; the state and the parent follow it.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        parent.and_then(|parent| parent.parse().ok()) == Some(pid)
    };
    processes.filter_map(Result::ok).filter_map(|entry| number(&entry)).filter(is_child).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(scratch: &Scratch) -> Service {
        let mut command = Command::new("sleep");
        command.arg("1000");
        Service::start(command, None, scratch, "TERM").unwrap()
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = find_program("no-such-program", &[], "some-package").unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` is not installed: apt-get install some-package");
    }

    #[tokio::test]
    async fn a_dropped_service_is_gone_with_its_leash_and_directory() {
        let scratch = Scratch::new("drop", None).unwrap();
        let service = sleeper(&scratch);
        let (path, pids) = (scratch.path().to_owned(), [service.pid(), service.leash.id()]);
        drop(service);
        drop(scratch);
        assert!(!path.exists());
        assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    }

    #[tokio::test]
    async fn the_leash_ends_a_frozen_family_whose_owner_died() {
        let scratch = Scratch::new("leash", None).unwrap();
        let mut command = Command::new("sh");
        // A parent that ignores what it is asked, with a child: both must be killed.
        command.args(["-c", "trap '' TERM; sleep 1000 & wait"]);
        let mut service = Service::start(command, None, &scratch, "TERM").unwrap();
        let child = loop {
            match children_of(service.pid()).first() {
                Some(child) => break *child,
                None => tokio::task::yield_now().await,
            }
        };
        signal("STOP", &[service.pid(), child]).unwrap();
        // What our end of the pipe does when this process ends.
        drop(service.leash.stdin.take());
        service.wait(Duration::from_secs(10)).await.unwrap();
        service.leash.wait().unwrap();
        assert!(!scratch.path().exists());
        let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[tokio::test]
    async fn a_restarted_service_finds_its_directory() {
        let scratch = Scratch::new("restart", None).unwrap();
        drop(sleeper(&scratch));
        assert!(scratch.path().exists());
        sleeper(&scratch).kill();
        assert!(scratch.path().exists());
    }
}
