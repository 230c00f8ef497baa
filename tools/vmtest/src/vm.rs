//! A machine: the shipped EFI file, started by UEFI firmware in QEMU.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::ops::Deref;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gdb::Debugger;
use crate::qmp::Monitor;
use crate::spec::Start;
use crate::turn::Turn;
use crate::{Architecture, BOOT, Board, OrFail, SOON, Terminal, VmSpec, efi_file};

/// Virtual processors of every machine.
const PROCESSORS: u32 = 2;

/// A running machine. Used as the terminal at its serial port.
pub struct Vm {
    terminal: Terminal,
    monitor: Monitor,
    turn: Option<Turn>,
    transcripts: Receiver<(String, String)>,
    qemu: Child,
    directory: TempDir,
    board: Board,
    memory_mib: u32,
    plugged: u32,
}

/// How long a machine that is stopped stays so.
fn stopped() -> Duration {
    let told = env::var("ZOSIA_STOPPED_SECONDS").ok();
    let seconds = told.map_or(0, |n| n.parse().or_fail("read ZOSIA_STOPPED_SECONDS"));
    Duration::from_secs(seconds)
}

/// How a machine ended.
#[derive(Debug)]
pub struct Exit {
    /// QEMU's word for it: `guest-shutdown` is a power-off.
    pub reason: String,
    /// The answer that came through the port for one turn.
    pub answer: String,
    /// The lines of JSON that say how each turn went.
    pub results: Vec<Value>,
}

impl Exit {
    /// Why the one turn was not answered: fails if it was, or if there were others.
    #[track_caller]
    #[must_use]
    pub fn error(&self) -> &str {
        let [result] = &self.results[..] else {
            panic!("one result: {:?}", self.results);
        };
        assert_eq!(result["answered"], false, "{result}");
        let error = result["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty(), "{result}");
        error
    }
}

/// Bytes a second that QEMU lets through: all, and so few that a second request of a page
/// waits for 16 seconds, also where the limit is taken back meanwhile.
const NO_LIMIT: u64 = 0;
const STALLED: u64 = 256;

/// What QEMU calls the limits of a disk that was plugged in.
fn limits_of(name: &str) -> String {
    format!("limits-of-{name}")
}

impl Vm {
    /// Switches the machine on.
    #[must_use]
    pub fn launch(spec: &VmSpec) -> Self {
        let directory = TempDir::with_prefix("zosia-vm-").or_fail("make a directory");
        let at = |name: &str| directory.path().join(name);
        let listen = |name: &str| UnixListener::bind(at(name)).or_fail("listen on a socket");
        let (console, monitor, turn) = (listen("console"), listen("monitor"), listen("turn"));
        let save = listen("save");

        let mut command = qemu(spec, directory.path());
        let errors = File::create(at("qemu.log")).or_fail("create QEMU's log");
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .or_fail("start QEMU");

        let mut accept = |listener: &UnixListener| accept(listener, &mut qemu, &at("qemu.log"));
        let console = accept(&console);
        let monitor = Monitor::listen(accept(&monitor));
        let transcripts = keep_transcripts(accept(&save));
        let turn = spec
            .order
            .clone()
            .map(|order| Turn::new(accept(&turn), order));
        let keyboard = console.try_clone().or_fail("copy a descriptor");
        Self {
            terminal: Terminal::new(console, keyboard),
            monitor,
            turn,
            transcripts,
            qemu,
            directory,
            board: spec.board,
            memory_mib: spec.memory_mib,
            plugged: 0,
        }
    }

    /// Switches the machine on and waits for the prompt.
    #[must_use]
    #[track_caller]
    pub fn at_prompt(spec: &VmSpec) -> Self {
        let vm = Self::launch(spec);
        let _ = vm.expect_prompt(BOOT);
        vm
    }

    /// The conversation, saved under `name`.
    #[track_caller]
    #[must_use]
    pub fn saved(&self, name: &str) -> String {
        let said = self.terminal.ask(&format!("/save {name}"), SOON);
        let place = format!("saved as transcripts/{name} on the host");
        assert!(said.contains(&place), "{said}");
        let (saved_as, text) = self.transcripts.try_recv().or_fail("find what was saved");
        assert_eq!(saved_as, name);
        text
    }

    /// Plugs this file into the slot, as a disk.
    #[track_caller]
    pub fn plug_in(&mut self, path: &Path) {
        self.plug_in_with(path, NO_LIMIT);
    }

    /// The same, and the disk does not answer, but for its very first bytes.
    #[track_caller]
    pub fn plug_in_stalled(&mut self, path: &Path) {
        self.plug_in_with(path, STALLED);
    }

    #[track_caller]
    fn plug_in_with(&mut self, path: &Path, bytes_per_s: u64) {
        self.plugged += 1;
        let name = format!("plugged{}", self.plugged);
        let limits = json!({ "bps-read": bytes_per_s });
        let group =
            json!({ "qom-type": "throttle-group", "id": limits_of(&name), "limits": limits });
        self.monitor.execute("object-add", &group);
        let file = json!({ "driver": "file", "filename": path, "read-only": true });
        let limited = json!({
            "driver": "throttle", "throttle-group": limits_of(&name), "read-only": true,
            "file": file,
        });
        let disk = json!({
            "driver": "raw", "node-name": name, "read-only": true, "file": limited,
        });
        self.monitor.execute("blockdev-add", &disk);
        let device =
            json!({ "driver": "virtio-blk-pci", "id": name, "bus": "socket", "drive": name });
        // A slot whose disk was pulled out is free a moment after the guest has lost it.
        let deadline = Instant::now() + SOON;
        while let Err(error) = self.monitor.try_execute("device_add", &device) {
            assert!(
                Instant::now() < deadline,
                "the slot stays occupied: {error}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The disk that was plugged in last answers again, or does not any more.
    pub fn set_stalled(&mut self, is_stalled: bool) {
        let group = limits_of(&format!("plugged{}", self.plugged));
        let limits = json!({ "bps-read": if is_stalled { STALLED } else { NO_LIMIT } });
        self.monitor.execute(
            "qom-set",
            &json!({ "path": format!("/objects/{group}"), "property": "limits", "value": limits }),
        );
    }

    /// Takes away what [`Vm::plug_in`] has plugged in.
    pub fn pull_out(&mut self) {
        self.monitor.execute(
            "device_del",
            &json!({ "id": format!("plugged{}", self.plugged) }),
        );
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.monitor.execute("system_powerdown", &json!({}));
    }

    /// Stops all of the machine, and has it go on: at once, or after
    /// `ZOSIA_STOPPED_SECONDS`.
    pub fn stop_and_continue(&mut self) {
        self.monitor.execute("stop", &json!({}));
        thread::sleep(stopped());
        self.monitor.execute("cont", &json!({}));
    }

    /// Waits for the guest to switch off the machine, which keeps its memory.
    #[track_caller]
    pub fn expect_off(&self) {
        let reason = self.monitor.shutdown_reason();
        assert_eq!(reason.as_deref(), Some("guest-shutdown"));
    }

    /// All of the machine's memory, in a file.
    #[track_caller]
    #[must_use]
    pub fn memory(&mut self) -> PathBuf {
        let path = self.directory.path().join("memory");
        let all = json!({
            "val": self.board.memory_address(),
            "size": u64::from(self.memory_mib) << 20,
            "filename": path,
        });
        self.monitor.execute("pmemsave", &all);
        path
    }

    /// Makes the process that runs right now jump to an address where it has no
    /// code: SIGSEGV. While the engine decodes, that is the engine.
    pub fn crash_running_process(&self) {
        let socket = self.directory.path().join("debug");
        Debugger::attach(&socket, self.board.architecture()).divert_process(PROCESSORS, 0);
    }

    /// Waits for the first of the answer that comes through the port for one turn.
    #[track_caller]
    pub fn expect_answer(&mut self, within: Duration) {
        let turn = self.turn.as_mut().or_fail("find the port");
        let port = turn.answer(within);
        port.read_exact(&mut [0]).or_fail("read the answer");
    }

    /// Waits for the machine to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> Exit {
        let mut answer = Vec::new();
        if let Some(mut turn) = self.turn.take() {
            match turn.answer(within).read_to_end(&mut answer) {
                // What a guest refuses to read is left in the socket.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
                read => drop(read.or_fail("read the answer")),
            }
        }
        self.terminal.expect_end(within);
        // Without its terminal it is ending already.
        let _ = self.qemu.wait().or_fail("wait for QEMU");
        let reason = self
            .monitor
            .shutdown_reason()
            .or_fail("learn why the machine ended");
        let words = self.terminal.words();
        assert!(
            !words.contains("Kernel panic"),
            "the guest's kernel panicked"
        );
        let results = fs::read_to_string(self.directory.path().join("result")).unwrap_or_default();
        let results = results.lines().map(serde_json::from_str);
        Exit {
            reason,
            answer: String::from_utf8(answer).or_fail("read the answer as UTF-8"),
            results: results
                .collect::<Result<_, _>>()
                .or_fail("read the results as JSON"),
        }
    }

    /// Waits for the machine to be powered off by its guest.
    #[track_caller]
    pub fn expect_power_off(&mut self, within: Duration) {
        assert_eq!(self.wait_exit(within).reason, self.board.power_off());
    }
}

impl Deref for Vm {
    type Target = Terminal;

    fn deref(&self) -> &Terminal {
        &self.terminal
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let said = fs::read_to_string(self.directory.path().join("qemu.log")).unwrap_or_default();
        if thread::panicking() && !said.is_empty() {
            eprintln!("QEMU said: {said}");
        }
    }
}

/// QEMU with all that `spec` says; the sockets are in `directory`.
fn qemu(spec: &VmSpec, directory: &Path) -> Command {
    let board = spec.board;
    let socket = |id: &str| {
        let path = directory.join(id);
        format!("socket,id={id},path={}", path.display())
    };
    // setpriv becomes QEMU, which then dies with this thread, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(format!("qemu-system-{}", board.architecture().name()))
        .args(["-cpu", spec.processor.name()])
        .args(["-smp", &PROCESSORS.to_string()])
        .args(["-m", &spec.memory_mib.to_string()])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-chardev", &socket("console")])
        .args(["-device", &format!("virtio-serial-{}", board.bus())])
        .args(board.terminal())
        .args(["-chardev", &socket("monitor")])
        .args(["-mon", "chardev=monitor,mode=control"]);
    let debug = directory.join("debug");
    command.args([
        "-gdb",
        &format!("unix:{},server=on,wait=off", debug.display()),
    ]);
    command.args(start_arguments(spec, directory));
    if spec.keeps_memory {
        command.arg("-no-shutdown");
    }
    if spec.has_slot {
        command.args(["-device", "pcie-root-port,id=socket,chassis=1"]);
    }
    for (index, drive) in spec.drives.iter().enumerate() {
        command.args(drive.arguments(index, board));
    }
    command
        .args(["-device", &format!("virtio-serial-{}", board.ports())])
        .args(["-chardev", &socket("save")])
        .args(["-device", "virtserialport,chardev=save,name=zosia.save"]);
    if spec.order.is_some() {
        let result = directory.join("result");
        command
            .args(["-chardev", &socket("turn")])
            .args(["-device", "virtserialport,chardev=turn,name=zosia.turn"])
            .args([
                "-chardev",
                &format!("file,id=result,path={}", result.display()),
            ])
            .args(["-device", "virtserialport,chardev=result,name=zosia.result"]);
    }
    command
}

/// The board, what firmware it has, and what that starts.
fn start_arguments(spec: &VmSpec, directory: &Path) -> Vec<OsString> {
    let architecture = spec.board.architecture();
    let mut machine = spec.board.machine().to_owned();
    let mut accelerator = "tcg";
    let mut arguments: Vec<OsString> = Vec::new();
    match spec.start {
        // Its own, with the machine.
        Start::Firmware if spec.board == Board::Microvm => {}
        Start::Firmware | Start::Disk => {
            arguments.extend(["-bios".into(), architecture.firmware().into()]);
        }
        Start::SecureDisk => {
            let [code, known] = architecture.secure_firmware();
            // Its variables are written, and on a PC by nobody else.
            let variables = directory.join("variables");
            fs::copy(known, &variables).or_fail("copy the firmware's variables");
            if architecture == Architecture::X86_64 {
                machine = machine.replace("smm=off", "smm=on");
                // Side by side, emulated processors do not find together in this mode.
                accelerator = "tcg,thread=single";
                let secure = "driver=cfi.pflash01,property=secure,value=on";
                arguments.extend(["-global".into(), secure.into()]);
            }
            let flash = "if=pflash,format=raw";
            let code = format!("{flash},readonly=on,file={code}");
            let variables = format!("{flash},file={}", variables.display());
            arguments.extend(["-drive", &code, "-drive", &variables].map(OsString::from));
        }
        Start::Loader => {}
    }
    if matches!(spec.start, Start::Disk | Start::SecureDisk) {
        // The firmware's menu waits for nobody.
        arguments.extend(["-boot", "menu=on,splash-time=0"].map(OsString::from));
    } else {
        arguments.extend(["-kernel".into(), efi_file(architecture).into()]);
        arguments.extend(["-append".into(), spec.command_line()]);
        if let Some(archive) = &spec.initrd {
            arguments.extend(["-initrd".into(), archive.into()]);
        }
    }
    arguments.extend(["-machine", &machine, "-accel", accelerator].map(OsString::from));
    arguments
}

/// The host's half of `/save`: keeps each transcript and says so.
fn keep_transcripts(port: UnixStream) -> Receiver<(String, String)> {
    let (keep, kept) = mpsc::channel();
    let mut answers = port.try_clone().or_fail("copy a descriptor");
    thread::spawn(move || {
        let mut port = BufReader::new(port);
        let mut header = String::new();
        while matches!(port.read_line(&mut header), Ok(1..)) {
            let mut words = header.trim_end_matches('\n').splitn(4, ' ');
            assert_eq!(words.next(), Some("save"), "{header:?}");
            let number = words.next().or_fail("read a transcript's number");
            let bytes = words.next().and_then(|n| n.parse().ok());
            let name = words.next().or_fail("read a transcript's name");
            let mut text = vec![0; bytes.or_fail("read a transcript's length")];
            port.read_exact(&mut text).or_fail("read a transcript");
            let text = String::from_utf8(text).or_fail("read text");
            // Nobody looks any more when the test has ended.
            let _ = keep.send((name.to_owned(), text));
            if writeln!(answers, "ok {number} {name}").is_err() {
                return;
            }
            header.clear();
        }
    });
    kept
}

/// Waits for QEMU to connect; fails with its own words if it ends instead.
fn accept(listener: &UnixListener, qemu: &mut Child, log: &Path) -> UnixStream {
    listener.set_nonblocking(true).or_fail("poll a socket");
    let deadline = Instant::now() + SOON;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).or_fail("wait on a socket");
            return stream;
        }
        if let Some(status) = qemu.try_wait().or_fail("look after QEMU") {
            let said = fs::read_to_string(log).unwrap_or_default();
            panic!("QEMU did not start, {status}: {said}");
        }
        assert!(
            Instant::now() < deadline,
            "QEMU does not connect to {listener:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}
