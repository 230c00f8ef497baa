//! How PID 1 ends: by powering off or restarting the machine, never by
//! returning. In any other process the same calls end the process, so that no
//! bug can switch off a developer's machine.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::time::Duration;

use rustix::system::RebootCommand;

use crate::wipe;

/// Powers the machine off (PSCI `SYSTEM_OFF` on a virtual machine, ACPI on a PC). In a
/// process that is not PID 1: exits with status 0.
pub(crate) fn power_off() -> ! {
    end(0)
}

/// From now on a panic prints one line on standard error, where the host finds
/// it by its first words, and powers the machine off; the kernel never sees
/// PID 1 die. For PID 1 only.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        say(&panic_line(panic));
        end(101)
    }));
}

/// `zosia: panic at init/src/boot.rs:12: message`, on one line.
fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = panic.location().map_or_else(
        || "an unknown place".into(),
        |at| format!("{}:{}", at.file(), at.line()),
    );
    one_line(&format!(
        "zosia: panic at {place}: {message}; powering off; please report it [ZE-51]"
    ))
}

/// Replaces line ends and whatever else moves a terminal's cursor.
fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect()
}

/// Prints a line. The terminal may be in raw mode and in the middle of a line.
fn say(line: &str) {
    // There is nobody left to tell that telling failed.
    let _ = writeln!(std::io::stderr(), "\r\n{line}\r");
}

/// What switches this machine off, by what `firmware` (`/sys/firmware`) has. A PC
/// without ACPI, as small virtual machine monitors make it, has no power-off: the
/// kernel would stop with the power on. They take a restart for the end.
fn command_for(firmware: &Path) -> RebootCommand {
    let is_pc = cfg!(target_arch = "x86_64");
    if is_pc && firmware.exists() && !firmware.join("acpi").exists() {
        RebootCommand::Restart
    } else {
        RebootCommand::PowerOff
    }
}

fn end(status: i32) -> ! {
    if std::process::id() != 1 {
        std::process::exit(status);
    }
    wipe::become_another();
    switch_off()
}

/// The end of PID 1, and nothing before it.
pub(crate) fn switch_off() -> ! {
    // Nothing waits to be written: what a session keeps is flushed record by record,
    // and a disk that does not answer must not keep the machine on.

    // Not even the kernel's last word: what stands on the terminal is the
    // user's. Without the file it is shown, no more.
    let _ = std::fs::write("/proc/sys/kernel/printk", "0");
    let command = command_for(Path::new("/sys/firmware"));
    if let Err(error) = rustix::system::reboot(command) {
        let line = format!(
            "zosia: the machine does not power off ({error}); it is safe to switch it off now [ZE-52]"
        );
        // Its own terminal PID 1 may have left.
        let _ = std::fs::write("/dev/console", format!("\r\n{line}\r\n"));
    }
    // Returning would make the kernel panic.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs one ignored test of this executable in a process of its own.
    fn run_alone(test: &str) -> std::process::Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", test])
            .output()
            .unwrap()
    }

    fn path_of(test: &str) -> String {
        let module = module_path!().split_once("::").unwrap().1;
        format!("{module}::{test}")
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_pc_without_acpi_restarts() {
        let firmware = std::env::temp_dir().join(format!("zosia-firmware-{}", std::process::id()));
        let command = |expected| assert_eq!(command_for(&firmware), expected);
        command(RebootCommand::PowerOff);
        std::fs::create_dir(&firmware).unwrap();
        command(RebootCommand::Restart);
        std::fs::create_dir(firmware.join("acpi")).unwrap();
        command(RebootCommand::PowerOff);
        std::fs::remove_dir_all(firmware).unwrap();
    }

    #[test]
    fn outside_pid_1_power_off_only_ends_the_process() {
        let output = run_alone(&path_of("power_off_here"));
        assert_eq!(output.status.code(), Some(0));
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(out.contains("running 1 test"), "{out}");
        assert!(!out.contains("test result"), "it returned: {out}");
    }

    #[test]
    #[ignore = "ends its process; run by outside_pid_1_power_off_only_ends_the_process"]
    fn power_off_here() {
        power_off()
    }

    #[test]
    fn a_panic_is_one_line_and_ends_the_process() {
        let output = run_alone(&path_of("panic_here"));
        assert_eq!(output.status.code(), Some(101));
        let err = String::from_utf8_lossy(&output.stderr);
        let line = err.lines().find(|l| l.starts_with("zosia: panic at "));
        let line = line.unwrap_or_else(|| panic!("no such line in {err:?}"));
        assert!(line.contains("power.rs:"), "{line}");
        assert!(line.contains(": first second; powering off"), "{line}");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(!out.contains("test result"), "it returned: {out}");
    }

    #[test]
    #[ignore = "ends its process; run by a_panic_is_one_line_and_ends_the_process"]
    fn panic_here() {
        install_panic_hook();
        panic!("first\nsecond");
    }

    #[test]
    fn a_panic_in_a_thread_ends_the_process_too() {
        let output = run_alone(&path_of("panic_in_thread_here"));
        assert_eq!(output.status.code(), Some(101));
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains(": no message; powering off"), "{err:?}");
    }

    #[test]
    #[ignore = "ends its process; run by a_panic_in_a_thread_ends_the_process_too"]
    fn panic_in_thread_here() {
        install_panic_hook();
        let _ = std::thread::spawn(|| std::panic::panic_any(7)).join();
    }
}
