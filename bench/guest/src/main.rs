//! PID 1 of a guest that measures: runs the commands of `/plan` one after the
//! other, each announced by a line `@@ NAME`, then switches the machine off.
//! A line of the plan is a name and a command's words, tabs between them.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

fn main() -> io::Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), None)?;
    }
    // As zosia's own PID 1 has it: the same for everybody who is measured.
    if Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        fs::write("/sys/kernel/mm/transparent_hugepage/enabled", "always")?;
    }
    let outcome = run_plan();
    if let Err(error) = &outcome {
        writeln!(io::stdout(), "bench-guest: {error}")?;
    }
    rustix::fs::sync();
    // Returns only if the machine cannot be switched off: then PID 1 ends and
    // the kernel's panic tells.
    reboot(RebootCommand::PowerOff)?;
    outcome
}

fn run_plan() -> io::Result<()> {
    let plan = fs::read_to_string("/plan")?;
    for line in plan.lines() {
        let mut words = line.split('\t');
        let (Some(name), Some(program)) = (words.next(), words.next()) else {
            continue;
        };
        writeln!(io::stdout(), "@@ {name}")?;
        let status = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .status()?;
        if !status.success() {
            writeln!(io::stdout(), "bench-guest: {name}: {status}")?;
        }
    }
    Ok(())
}
