//! A machine: the shipped EFI file, started by UEFI firmware in QEMU.

use std::env;
use std::ffi::{OsStr, OsString};
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
use crate::{BOOT, COLS, OrFail, ROWS, SOON, SYSTEM_PROMPT, Terminal, efi_file};

/// Where distributions put the firmware.
const FIRMWARE: [&str; 4] = [
    "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
    "/usr/share/AAVMF/AAVMF_CODE.fd",
    "/usr/share/edk2/aarch64/QEMU_EFI.fd",
    "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
];

/// Debian's firmware with Secure Boot, and its variables: the key [`SNAKEOIL`] and no
/// other is known.
const SECURE_FIRMWARE: [&str; 2] = [
    "/usr/share/AAVMF/AAVMF_CODE.snakeoil.fd",
    "/usr/share/AAVMF/AAVMF_VARS.snakeoil.fd",
];

/// Debian's key for tests of Secure Boot and its certificate; its passphrase is its name.
pub const SNAKEOIL: [&str; 2] = [
    "/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil.key",
    "/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil.pem",
];

/// Virtual processors of every machine.
const PROCESSORS: u32 = 2;

/// What to build a machine of.
#[derive(Debug, Clone)]
pub struct VmSpec {
    board: Board,
    processor: Processor,
    has_slot: bool,
    start: Start,
    memory_mib: u32,
    drives: Vec<Drive>,
    parameters: Vec<OsString>,
    order: Option<Vec<u8>>,
}

/// Who starts the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// UEFI firmware that QEMU gives the EFI file and the command line.
    Firmware,
    /// UEFI firmware that finds the EFI file on the disk.
    Disk,
    /// The same, which starts only what its key has signed.
    SecureDisk,
    /// QEMU itself.
    Loader,
}

/// The kind of processor, each the least that runs one level of ggml-cpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// ARMv8.0, as in a Raspberry Pi 4.
    CortexA72,
    /// ARMv8.2 with dot products, as in most clouds.
    NeoverseN1,
    /// Everything that QEMU knows, matrix products among it, as in a Mac.
    Max,
}

impl Processor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CortexA72, Self::NeoverseN1, Self::Max];

    /// As QEMU calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CortexA72 => "cortex-a72",
            Self::NeoverseN1 => "neoverse-n1",
            Self::Max => "max",
        }
    }

    /// The level of ggml-cpu that zosia chooses on it.
    #[must_use]
    pub fn level(self) -> &'static str {
        match self {
            Self::CortexA72 => "v80",
            Self::NeoverseN1 => "v82",
            Self::Max => "v86",
        }
    }
}

/// What the machine is made of, and how the kernel learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// What `tools/run.sh` starts: virtio over MMIO and a PL011 serial port,
    /// described by a device tree.
    Mmio,
    /// Virtio over PCI, with a virtio console for the terminal, described by a
    /// device tree: what Apple's Virtualization.framework gives to a kernel
    /// that it loads itself.
    Pci,
    /// The same, described by ACPI: what its UEFI firmware gives.
    PciAcpi,
}

/// A disk of the machine, attached read-only unless it says otherwise.
#[derive(Debug, Clone)]
pub enum Drive {
    /// This file.
    File(PathBuf),
    /// This file, with a read error at each access to this sector of 512 bytes.
    Failing(PathBuf, u64),
    /// This file, read at no more than this many bytes a second.
    Slow(PathBuf, u64),
    /// This file, which the guest could write.
    Writable(PathBuf),
    /// This file, where conversations are kept.
    Session(PathBuf),
    /// The same, with an error of the host's disk at the first write to this sector.
    FailingSession(PathBuf, u64),
}

impl Default for VmSpec {
    fn default() -> Self {
        Self {
            board: Board::Mmio,
            // Emulated, it is twice as fast as one without dot products.
            processor: Processor::NeoverseN1,
            has_slot: false,
            start: Start::Firmware,
            memory_mib: 1024,
            drives: Vec::new(),
            parameters: Vec::new(),
            order: None,
        }
    }
}

impl VmSpec {
    /// A machine with two processors and 1024 MiB, and no disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine with this model, greedy, so that its answers can be foretold,
    /// and with one thread: emulated on a host that is busy too, two of them
    /// wait for each other most of the time.
    #[must_use]
    pub fn with_model(path: impl Into<PathBuf>) -> Self {
        Self::new()
            .disk(Drive::File(path.into()))
            .parameter("zosia.temp=0")
            .parameter("zosia.threads=1")
            .parameter(format!("zosia.system=\"{SYSTEM_PROMPT}\""))
    }

    /// Another disk.
    #[must_use]
    pub fn disk(mut self, drive: Drive) -> Self {
        self.drives.push(drive);
        self
    }

    /// Another kind of machine.
    #[must_use]
    pub fn board(mut self, board: Board) -> Self {
        self.board = board;
        self
    }

    /// Another kind of processor.
    #[must_use]
    pub fn processor(mut self, processor: Processor) -> Self {
        self.processor = processor;
        self
    }

    /// Virtio over PCI, and a slot where a disk can be plugged in later.
    #[must_use]
    pub fn with_slot(mut self) -> Self {
        self.has_slot = true;
        self.board(Board::Pci)
    }

    /// The firmware finds the EFI file on the disk, and nothing gives it a
    /// command line: parameters are those of the disk.
    #[must_use]
    pub fn starts_from_disk(mut self) -> Self {
        self.start = Start::Disk;
        self
    }

    /// The same, with Secure Boot: the firmware knows Debian's key for tests, and no
    /// other.
    #[must_use]
    pub fn starts_signed_from_disk(mut self) -> Self {
        self.start = Start::SecureDisk;
        self
    }

    /// QEMU starts the kernel, and hands it the bytes of the command line as
    /// they are; firmware takes them for ASCII.
    #[must_use]
    pub fn without_firmware(mut self) -> Self {
        self.start = Start::Loader;
        self
    }

    /// This much memory.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Another word on the kernel command line.
    #[must_use]
    pub fn parameter(mut self, parameter: impl AsRef<OsStr>) -> Self {
        self.parameters.push(parameter.as_ref().to_owned());
        self
    }

    /// One turn, whose prompt and answer go through ports and not the terminal.
    #[must_use]
    pub fn one_turn(self, prompt: &str) -> Self {
        self.order(format!("{}\n{prompt}", prompt.len()))
    }

    /// A conversation of its own for each of `lines`, JSON each.
    #[must_use]
    pub fn batch(self, lines: &[&str]) -> Self {
        let lines = lines.join("\n");
        self.order(format!("batch END 0\n{lines}\nEND\n"))
    }

    /// What the host sends in the place of one turn or of a batch.
    #[must_use]
    pub fn order(mut self, order: impl Into<Vec<u8>>) -> Self {
        self.order = Some(order.into());
        self.parameter("zosia.prompt=-")
    }

    fn command_line(&self) -> OsString {
        let console = self.board.console();
        let fixed = format!("console={console} quiet panic=-1 zosia.cols={COLS} zosia.rows={ROWS}");
        let all = [&[OsString::from(fixed)], &self.parameters[..]].concat();
        all.join(OsStr::new(" "))
    }
}

impl Board {
    fn machine(self) -> &'static str {
        match self {
            Self::Mmio | Self::Pci => "virt,acpi=off",
            Self::PciAcpi => "virt,acpi=on,gic-version=3",
        }
    }

    /// What ends the names of QEMU's virtio devices.
    fn bus(self) -> &'static str {
        match self {
            Self::Mmio => "device",
            Self::Pci | Self::PciAcpi => "pci",
        }
    }

    fn console(self) -> &'static str {
        match self {
            Self::Mmio => "ttyAMA0",
            Self::Pci | Self::PciAcpi => "hvc0",
        }
    }

    /// The terminal, on the character device `console`. QEMU's board has its
    /// PL011 in any case; with virtio, nothing is connected to that.
    fn terminal(self) -> &'static [&'static str] {
        match self {
            Self::Mmio => &["-serial", "chardev:console"],
            Self::Pci | Self::PciAcpi => {
                &["-serial", "none", "-device", "virtconsole,chardev=console"]
            }
        }
    }
}

/// A running machine. Used as the terminal at its serial port.
pub struct Vm {
    terminal: Terminal,
    monitor: Monitor,
    turn: Option<UnixStream>,
    transcripts: Receiver<(String, String)>,
    qemu: Child,
    directory: TempDir,
    plugged: u32,
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

impl Vm {
    /// Switches the machine on.
    #[must_use]
    pub fn launch(spec: &VmSpec) -> Self {
        let directory = TempDir::with_prefix("zosia-vm-").or_fail("make a directory");
        let at = |name: &str| directory.path().join(name);
        let listen = |name: &str| UnixListener::bind(at(name)).or_fail("listen on a socket");
        let (console, monitor, turn) = (listen("console"), listen("monitor"), listen("turn"));
        let save = listen("save");

        // setpriv becomes QEMU, which then dies with this thread, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-aarch64"])
            .args(["-machine", spec.board.machine()])
            .args(["-cpu", spec.processor.name(), "-accel", "tcg"])
            .args([
                "-smp",
                &PROCESSORS.to_string(),
                "-m",
                &spec.memory_mib.to_string(),
            ])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-chardev", &socket("console", &at("console"))])
            .args(["-device", &format!("virtio-serial-{}", spec.board.bus())])
            .args(spec.board.terminal())
            .args(["-chardev", &socket("monitor", &at("monitor"))])
            .args(["-mon", "chardev=monitor,mode=control"])
            .args([
                "-gdb",
                &format!("unix:{},server=on,wait=off", at("debug").display()),
            ]);
        match spec.start {
            Start::Firmware | Start::Disk => drop(command.arg("-bios").arg(firmware())),
            Start::SecureDisk => {
                // Its variables are written.
                let variables = at("variables");
                fs::copy(SECURE_FIRMWARE[1], &variables).or_fail("copy the firmware's variables");
                let flash = "if=pflash,format=raw";
                let code = format!("{flash},readonly=on,file={}", SECURE_FIRMWARE[0]);
                let variables = format!("{flash},file={}", variables.display());
                command.args(["-drive", &code, "-drive", &variables]);
            }
            Start::Loader => {}
        }
        if matches!(spec.start, Start::Disk | Start::SecureDisk) {
            // The firmware's menu waits for nobody.
            command.args(["-boot", "menu=on,splash-time=0"]);
        } else {
            command.arg("-kernel").arg(efi_file());
            command.arg("-append").arg(spec.command_line());
        }
        if spec.has_slot {
            command.args(["-device", "pcie-root-port,id=socket,chassis=1"]);
        }
        for (index, drive) in spec.drives.iter().enumerate() {
            command.args(drive.arguments(index, spec.board));
        }
        command
            .args(["-device", "virtio-serial-device"])
            .args(["-chardev", &socket("save", &at("save"))])
            .args(["-device", "virtserialport,chardev=save,name=zosia.save"]);
        if spec.order.is_some() {
            command
                .args(["-chardev", &socket("turn", &at("turn"))])
                .args(["-device", "virtserialport,chardev=turn,name=zosia.turn"])
                .args([
                    "-chardev",
                    &format!("file,id=result,path={}", at("result").display()),
                ])
                .args(["-device", "virtserialport,chardev=result,name=zosia.result"]);
        }
        let errors = File::create(at("qemu.log")).or_fail("create QEMU's log");
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .or_fail("start qemu-system-aarch64");

        let mut accept = |listener: &UnixListener| accept(listener, &mut qemu, &at("qemu.log"));
        let console = accept(&console);
        let monitor = Monitor::listen(accept(&monitor));
        let transcripts = keep_transcripts(accept(&save));
        let turn = spec.order.clone().map(|order| {
            let port = accept(&turn);
            let mut to_guest = port.try_clone().or_fail("copy a descriptor");
            // A guest that refuses what is too long reads no further.
            thread::spawn(move || to_guest.write_all(&order));
            port
        });
        let keyboard = console.try_clone().or_fail("copy a descriptor");
        Self {
            terminal: Terminal::new(console, keyboard),
            monitor,
            turn,
            transcripts,
            qemu,
            directory,
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
        self.plugged += 1;
        let name = format!("plugged{}", self.plugged);
        let file = json!({ "driver": "file", "filename": path, "read-only": true });
        let disk = json!({
            "driver": "raw", "node-name": name, "read-only": true, "file": file,
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

    /// Takes away what [`Vm::plug_in`] has plugged in.
    pub fn pull_out(&mut self) {
        self.monitor.execute(
            "device_del",
            &json!({ "id": format!("plugged{}", self.plugged) }),
        );
    }

    /// Stops all of the machine, and has it go on.
    pub fn stop_and_continue(&mut self) {
        self.monitor.execute("stop", &json!({}));
        self.monitor.execute("cont", &json!({}));
    }

    /// Makes the process that runs right now jump to an address where it has no
    /// code: SIGSEGV. While the engine decodes, that is the engine.
    pub fn crash_running_process(&self) {
        Debugger::attach(&self.directory.path().join("debug")).divert_process(PROCESSORS, 0);
    }

    /// Waits for the machine to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> Exit {
        let mut answer = Vec::new();
        if let Some(mut port) = self.turn.take() {
            port.set_read_timeout(Some(within))
                .or_fail("set a deadline");
            match port.read_to_end(&mut answer) {
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
        assert_eq!(self.wait_exit(within).reason, "guest-shutdown");
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

impl Drive {
    fn arguments(&self, index: usize, board: Board) -> Vec<String> {
        let node = |options: String| ["-blockdev".to_owned(), options];
        let read_only = match self {
            Self::Writable(_) | Self::Session(_) | Self::FailingSession(..) => "off",
            _ => "on",
        };
        let file = |path: &Path| {
            let name = path.to_string_lossy().replace(',', ",,");
            node(format!(
                "driver=file,node-name=file{index},read-only={read_only},filename={name}"
            ))
        };
        let raw = |below: &str| {
            node(format!(
                "driver=raw,node-name=disk{index},read-only={read_only},file={below}{index}"
            ))
        };
        // Disks are whole sectors; the serial number tells the file's own length.
        let device = |path: &Path| {
            let bytes = fs::metadata(path).or_fail("look at the disk").len();
            let serial = format!("serial=zosia-{bytes}");
            [
                "-device".to_owned(),
                format!("virtio-blk-{},drive=disk{index},{serial}", board.bus()),
            ]
        };
        // Errors are the guest's: else the machine stops.
        let session = || {
            let serial = "serial=zosia-session,werror=report";
            let device = format!("virtio-blk-{},drive=disk{index},{serial}", board.bus());
            ["-device".to_owned(), device]
        };
        match self {
            Self::Session(path) => [file(path), raw("file"), session()].concat(),
            Self::FailingSession(path, sector) => {
                let error = format!(
                    "inject-error.0.event=write_aio,inject-error.0.errno=28,\
                     inject-error.0.once=on,inject-error.0.sector={sector}"
                );
                let failing =
                    format!("driver=blkdebug,node-name=failing{index},image=file{index},{error}");
                [file(path), node(failing), raw("failing"), session()].concat()
            }
            Self::File(path) | Self::Writable(path) => {
                [file(path), raw("file"), device(path)].concat()
            }
            // Without a raw node above it, blkdebug's errors never fire.
            Self::Failing(path, sector) => {
                let error = format!(
                    "inject-error.0.event=read_aio,inject-error.0.errno=5,\
                     inject-error.0.sector={sector}"
                );
                let failing =
                    format!("driver=blkdebug,node-name=failing{index},image=file{index},{error}");
                [file(path), node(failing), raw("failing"), device(path)].concat()
            }
            Self::Slow(path, bytes_per_s) => {
                let group = format!(
                    "{{\"qom-type\": \"throttle-group\", \"id\": \"group{index}\", \
                     \"limits\": {{\"bps-read\": {bytes_per_s}}}}}"
                );
                let slow = format!(
                    "driver=throttle,node-name=slow{index},read-only=on,\
                     throttle-group=group{index},file=file{index}"
                );
                let object = ["-object".to_owned(), group];
                [object, file(path), node(slow), raw("slow"), device(path)].concat()
            }
        }
    }
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

fn socket(id: &str, path: &Path) -> String {
    format!("socket,id={id},path={}", path.display())
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

fn firmware() -> PathBuf {
    if let Some(path) = env::var_os("ZOSIA_FIRMWARE") {
        return path.into();
    }
    let mut known = FIRMWARE.iter().map(PathBuf::from);
    known
        .find(|path| path.exists())
        .or_fail("find UEFI firmware (Debian: qemu-efi-aarch64)")
}
