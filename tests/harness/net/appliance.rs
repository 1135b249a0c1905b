//! The `millrace` binary, running in the lab's appliance namespace on a configuration of the test's.
//!
//! The standing assertions of the case catalogue that can be seen from outside are checked whenever an appliance is
//! stopped: A1 (alive, no panic), A2 (every packet accounted for), A3 (buffers back), A6 (the workers' heartbeat) and
//! A7 (the control socket answers).

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::{Configuration, Finished, Lab, Namespace, Process, eventually, holds_within};

/// How long a start may take on an idle machine: EAL, ports, tables.
const START_SECONDS: u64 = 30;
/// How long a stop may take there.
const STOP: Duration = Duration::from_secs(10);

/// A running appliance. Dropped, it is told to stop, and killed if it does not.
#[derive(Debug)]
pub struct Appliance<'lab> {
    host: &'lab Namespace,
    process: Process,
    binary: PathBuf,
    socket: PathBuf,
    folder: PathBuf,
    buffers_idle: u64,
    stopped: bool,
}

/// How one is started.
#[derive(Clone, Copy)]
struct Start<'a> {
    /// What its files are called.
    name: &'a str,
    /// An option of `millrace run`.
    option: &'a str,
    /// What the command line begins with.
    command: &'a str,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self { name: "millrace", option: "", command: "" }
    }
}

/// The binary under test: `MILLRACE_BIN`, else the newest of the target directory this test was built in.
///
/// # Errors
/// A sentence when there is none.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MILLRACE_BIN") {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(format!("MILLRACE_BIN={} is not a file", path.display())) };
    }
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = test.ancestors().nth(3).unwrap_or(Path::new("target"));
    let built = ["release", "debug"].map(|profile| target.join(profile).join("millrace"));
    let age = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let newest = built.into_iter().filter(|path| path.is_file()).max_by_key(age);
    newest.ok_or_else(|| "millrace is not built (cargo build --release --package control --features dpdk)".to_owned())
}

impl<'lab> Appliance<'lab> {
    /// Starts it, and waits until it answers and every probed backend has been judged once.
    #[must_use]
    pub fn start(lab: &'lab Lab, configuration: &Configuration) -> Self {
        let appliance = Self::launch(lab, configuration);
        appliance.wait_for_backends();
        appliance
    }

    /// Waits until every backend is up.
    #[track_caller]
    pub fn wait_for_backends(&self) {
        eventually(15, "every backend is up", || self.backends().iter().all(|backend| backend.health == "up"));
    }

    /// Starts it, and waits until it answers.
    #[must_use]
    pub fn launch(lab: &'lab Lab, configuration: &Configuration) -> Self {
        Self::launch_on(lab, &lab.appliance, "millrace", configuration)
    }

    /// Starts it with the last generation it had in force, or with this configuration, and waits until it answers.
    #[must_use]
    pub fn resume(lab: &'lab Lab, configuration: &Configuration) -> Self {
        Self::run(lab, &lab.appliance, Start { option: "--resume", ..Start::default() }, configuration)
    }

    /// Starts it by a command that another begins, such as `env NAME=VALUE`, and waits until it answers.
    #[must_use]
    pub fn launch_under(lab: &'lab Lab, command: &str, configuration: &Configuration) -> Self {
        Self::run(lab, &lab.appliance, Start { command, ..Start::default() }, configuration)
    }

    /// Starts one more on a host of its own, its files under this name, and waits until it answers.
    #[must_use]
    pub fn launch_on(lab: &'lab Lab, host: &'lab Namespace, name: &str, configuration: &Configuration) -> Self {
        Self::run(lab, host, Start { name, ..Start::default() }, configuration)
    }

    fn run(lab: &'lab Lab, host: &'lab Namespace, how: Start<'_>, configuration: &Configuration) -> Self {
        let Start { name, option, command } = how;
        let file = lab.file(&format!("{name}.toml"));
        std::fs::write(&file, configuration.text()).expect("the lab's directory takes a file");
        let binary = binary().expect("skipped where it is not built");
        let line = format!("{command} {} run --config {} {option}", binary.display(), file.display());
        let process = host.start(&line, &lab.file(&format!("{name}.log")));
        let mut appliance = Self {
            host,
            process,
            binary,
            socket: configuration.socket().to_owned(),
            folder: lab.directory().to_owned(),
            buffers_idle: 0,
            stopped: false,
        };
        let ready = holds_within(START_SECONDS, || {
            assert!(appliance.process.running(), "millrace ended at its start:\n{}", appliance.process.output());
            appliance.ask("show ports --json").success
        });
        assert!(ready, "millrace does not become ready:\n{}", appliance.process.output());
        appliance.buffers_idle = appliance.memory("buffers_in_use");
        appliance
    }

    /// Runs `millrace --socket ... <line>`.
    pub fn ask(&self, line: &str) -> Finished {
        self.host.run(&self.command(line))
    }

    /// As [`ask`](Self::ask), with one argument that has spaces in it.
    pub fn ask_about(&self, line: &str, argument: &str) -> Finished {
        let command = self.command(line);
        self.host.run_words(60, &command.split_whitespace().chain([argument]).collect::<Vec<_>>())
    }

    /// What the API says at `path`, asked without a program between: the answer has to be 200.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("the appliance listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit above zero");
        let call = format!("GET {path} HTTP/1.1\r\nHost: millrace\r\nConnection: close\r\n\r\n");
        stream.write_all(call.as_bytes()).expect("it takes calls");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers to the end, in UTF-8");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        answer
    }

    /// Starts `millrace --socket ... <line>` beside the test, its output in `log`.
    #[must_use]
    pub fn start_asking(&self, line: &str, log: &str) -> Process {
        self.host.start(&self.command(line), &self.folder.join(log))
    }

    /// The command line of `millrace --socket ... <line>`.
    #[must_use]
    pub fn command(&self, line: &str) -> String {
        format!("{} --socket {} {line}", self.binary.display(), self.socket.display())
    }

    /// Starts another on the same configuration, and waits for its end.
    pub fn second(&self) -> Finished {
        let file = self.folder.join("millrace.toml");
        self.host.run_for(20, &format!("{} run --config {}", self.binary.display(), file.display()))
    }

    /// Starts another on a configuration of its own, and waits for its end.
    pub fn second_with(&self, configuration: &Configuration) -> Finished {
        let file = self.folder.join("second.toml");
        std::fs::write(&file, configuration.text()).expect("the lab's directory takes a file");
        self.host.run_for(20, &format!("{} run --config {}", self.binary.display(), file.display()))
    }

    /// Puts another configuration in force.
    pub fn apply(&self, configuration: &Configuration) -> Finished {
        let file = self.folder.join("applied.toml");
        std::fs::write(&file, configuration.text()).expect("the lab's directory takes a file");
        self.ask(&format!("apply {}", file.display()))
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Bytes of memory it has in use.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("processes have it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Checks the standing assertions, stops it with SIGTERM, and checks that it ended well.
    #[track_caller]
    pub fn stop(mut self) {
        self.hold_standing_assertions();
        let status = self.terminate();
        assert_eq!(status.and_then(|status| status.code()), Some(0), "SIGTERM ends it with 0:\n{}", self.output());
        let output = self.output();
        assert!(!output.contains("panicked"), "A1: it panicked:\n{output}");
        assert!(!self.socket.exists(), "the control socket is removed");
    }

    #[track_caller]
    fn hold_standing_assertions(&mut self) {
        assert!(self.process.running(), "A1: it ended by itself:\n{}", self.output());
        let closes = holds_within(5, || self.account().closes());
        assert!(closes, "A2: received = forwarded + consumed + punted + dropped: {:?}", self.account());
        let idle = self.buffers_idle;
        eventually(10, &format!("A3: buffers in use return to {idle}"), || self.memory("buffers_in_use") <= idle);
        // What the two say of the appliance is true of any moment that the machine does not spend elsewhere.
        eventually(10, "A6: every worker's heartbeat is younger than 100 ms", || {
            self.of_each_worker("heartbeat_age_ms").iter().all(|age| *age < 100)
        });
        eventually(10, "A7: the control socket answers within a second", || {
            let asked = Instant::now();
            let _ = self.get("/api/v1/policy");
            asked.elapsed() < Duration::from_secs(1)
        });
    }

    /// Ends it with SIGKILL: it can clear nothing away.
    pub fn kill(&mut self) {
        self.stopped = true;
        self.process.kill();
    }

    /// Stops it with SIGTERM, without looking at anything.
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        self.stopped = true;
        self.process.signal("TERM");
        self.process.ends_within(STOP)
    }
}

impl Drop for Appliance<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.process.output();
            let lines: Vec<_> = output.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!("the appliance's last words:\n{}", lines.get(from..).unwrap_or_default().join("\n"));
        }
        if !self.stopped {
            let _ = self.terminate();
        }
    }
}
