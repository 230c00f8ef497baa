//! The same program as an ordinary command, on a pseudo-terminal of its own.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::{COLS, OrFail, ROWS, Terminal, native_executable, wait_until};

/// What a command finds where it is started.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Whether the kernel knows the size, as it does of a window.
    pub size_is_known: bool,
    /// Whether the terminal answers when it is asked for its size.
    pub answers: bool,
    /// `TERM`.
    pub term: String,
    /// The current directory, if not the test's.
    pub directory: Option<PathBuf>,
}

impl Default for Seat {
    fn default() -> Self {
        Self {
            size: (COLS, ROWS),
            size_is_known: true,
            answers: true,
            term: "xterm-256color".to_owned(),
            directory: None,
        }
    }
}

/// A command that believes to be at a user's terminal.
pub struct PlainCommand {
    terminal: Terminal,
    user_side: File,
    child: Child,
    ended: bool,
}

impl PlainCommand {
    /// Starts `program` on a terminal.
    pub fn launch<S: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = S>) -> Self {
        Self::launch_at(&Seat::default(), program, arguments)
    }

    /// Starts `program` on the terminal that `seat` describes.
    pub fn launch_at<S: AsRef<OsStr>>(
        seat: &Seat,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user_side = openpt(flags).or_fail("open a pseudo-terminal");
        grantpt(&user_side).or_fail("own the pseudo-terminal");
        unlockpt(&user_side).or_fail("unlock the pseudo-terminal");
        if seat.size_is_known {
            set_size(&user_side, seat.size);
        }
        let name = ptsname(&user_side, Vec::new()).or_fail("name the pseudo-terminal");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let command_side =
            rustix::fs::open(name, flags, Mode::empty()).or_fail("open the terminal's device");
        let copy = || command_side.try_clone().or_fail("copy a descriptor");
        // setsid makes standard input the controlling terminal and then becomes
        // the program: a child of ours is never a group leader, so it does not fork.
        let mut command = Command::new("setsid");
        // A program started in the background has Ctrl-C ignored, and hands that
        // on; at a terminal nothing is ignored.
        command.args(["--ctty", "env", "--default-signal=INT,QUIT"]);
        command.arg(program).args(arguments);
        if let Some(directory) = &seat.directory {
            command.current_dir(directory);
        }
        let child = command
            .env("TERM", &seat.term)
            .env_remove("NO_COLOR")
            .stdin(copy())
            .stdout(copy())
            .stderr(command_side)
            .spawn()
            .or_fail("start setsid");
        let user_side = File::from(user_side);
        let copy = || user_side.try_clone().or_fail("copy a descriptor");
        Self {
            terminal: Terminal::of_size(seat.size, seat.answers, copy(), copy()),
            user_side,
            child,
            ended: false,
        }
    }

    /// Stops the engine's process, which then does nothing, and ends only by SIGKILL.
    #[track_caller]
    pub fn stop_engine(&self) {
        let engine = self.engine().or_fail("find the engine among the processes");
        kill_process(engine, Signal::STOP).or_fail("stop the engine");
    }

    /// Kills the only child that the command has, its engine, by `signal`.
    #[track_caller]
    pub fn kill_engine(&self, signal: Signal) {
        let engine = self.engine().or_fail("find the engine among the processes");
        kill_process(engine, signal).or_fail("signal the engine");
        wait_until(
            || self.engine() != Some(engine),
            || format!("the engine survives {signal:?}"),
        );
    }

    /// The user drags the window's corner; the kernel tells the command.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.terminal.set_size(columns, rows);
        set_size(&self.user_side, (columns, rows));
    }

    /// Whether lines are edited and keys echoed by the terminal, as a shell wants it.
    #[must_use]
    pub fn is_sane(&self) -> bool {
        let modes = tcgetattr(&self.user_side).or_fail("look at the terminal's modes");
        modes
            .local_modes
            .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits until the terminal passes keys on as they are: those typed before then are
    /// echoed, and Enter arrives as another byte.
    #[track_caller]
    pub fn expect_raw(&self) {
        wait_until(|| !self.is_sane(), || self.dump());
    }

    /// Sends the command, and nobody else, a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).or_fail("signal the command");
    }

    /// Waits for the command to end, by a signal or not.
    #[track_caller]
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        self.terminal.expect_end(within);
        self.ended = true;
        self.child.wait().or_fail("wait for the command")
    }

    /// The command's own process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        // setsid has become the command.
        Pid::from_child(&self.child)
    }

    /// The engine's process, if there is one.
    #[must_use]
    pub fn engine(&self) -> Option<Pid> {
        let children = self.children();
        let lives = |(pid, state): (Pid, char)| (state != 'Z').then_some(pid);
        children.into_iter().find_map(lives)
    }

    /// The command's children, and the state of each: `Z` for one that has ended and
    /// that nobody has waited for.
    #[must_use]
    pub fn children(&self) -> Vec<(Pid, char)> {
        let parent = self.child.id().to_string();
        let processes = fs::read_dir("/proc").or_fail("list the processes");
        let child = |process: fs::DirEntry| {
            let stat = fs::read_to_string(process.path().join("stat")).ok()?;
            // Behind the name, which may hold anything: state, parent.
            let (_, behind_name) = stat.rsplit_once(')')?;
            let mut fields = behind_name.split_whitespace();
            let (state, its_parent) = (fields.next()?, fields.next()?);
            let pid = process.file_name().to_str()?.parse().ok()?;
            (its_parent == parent).then_some((Pid::from_raw(pid)?, state.chars().next()?))
        };
        processes.flatten().filter_map(child).collect()
    }

    /// Waits for the command to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        // Who has left its terminal has nothing left to do.
        let status = self.wait_end(within);
        assert!(
            status.signal().is_none(),
            "the command was killed: {status}"
        );
        status
    }
}

/// Runs the same program away from any terminal, to its end. One that does not
/// end within the time is killed, and fails the test.
#[track_caller]
#[must_use]
pub fn run_plain<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
    within: Duration,
) -> Output {
    let child = Command::new(native_executable())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .or_fail("start the plain command");
    let pid = Pid::from_child(&child);
    let (send, ended) = mpsc::channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    if let Ok(output) = ended.recv_timeout(within) {
        return output.or_fail("wait for the plain command");
    }
    // It may have ended in this moment.
    let _ = kill_process(pid, Signal::KILL);
    let output = ended.recv().or_fail("wait for the plain command");
    let output = output.or_fail("read of the plain command");
    panic!(
        "the command did not end within {within:?}; it wrote {} bytes, and said {}",
        output.stdout.len(),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn set_size(user_side: impl AsFd, (columns, rows): (u16, u16)) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(user_side, size).or_fail("size the pseudo-terminal");
}

impl Deref for PlainCommand {
    type Target = Terminal;

    fn deref(&self) -> &Terminal {
        &self.terminal
    }
}

impl Drop for PlainCommand {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended by itself meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until a process has stopped.
#[track_caller]
pub fn expect_stopped(process: Pid) {
    let stat = format!("/proc/{}/stat", process.as_raw_pid());
    let has_stopped = || {
        let stat = fs::read_to_string(&stat).or_fail("look at a process");
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    wait_until(has_stopped, || format!("process {process:?} does not stop"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SOON;

    #[test]
    fn a_command_gets_a_terminal_keys_and_signals() {
        // What is said last may be lost when a terminal is hung up: it leaves when told to.
        let script = "trap 'echo interrupted; read line; exit 3' INT; stty size; printf '>>> '; \
                      read line; printf 'heard %s\\n>>> ' \"$line\"; \
                      while :; do sleep 0.1; done";
        let mut command = PlainCommand::launch(Path::new("/bin/sh"), ["-c", script]);
        command.set_hints(false);
        let size = command.expect_prompt(SOON);
        assert!(size.contains(&format!("{ROWS} {COLS}")), "{size}");
        assert_eq!(command.ask("hello there", SOON), "heard hello there");
        command.ctrl_c();
        let _ = command.expect("interrupted", SOON);
        command.type_line("");
        assert_eq!(command.wait_exit(SOON).code(), Some(3));
    }

    #[test]
    fn the_engine_is_the_child_and_dies_of_the_signal() {
        let script = "printf '>>> '; sh -c 'sleep 60; :'; echo \"status $?\"";
        let command = PlainCommand::launch(Path::new("/bin/sh"), ["-c", script]);
        command.set_hints(false);
        let _ = command.expect_prompt(SOON);
        wait_until(|| command.engine().is_some(), || "there is no engine");
        command.kill_engine(Signal::KILL);
        let _ = command.expect("status 137", SOON);
    }
}
