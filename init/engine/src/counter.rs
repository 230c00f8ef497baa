//! The processor's own clock. On ARM it is a register that any process may
//! read and that counts from the machine's start, before there is a kernel.

/// Milliseconds that the machine had run when the kernel's clock began, if the
/// processor tells.
#[cfg(target_arch = "aarch64")]
pub(crate) fn before_kernel_ms() -> Option<u64> {
    use rustix::time::{ClockId, clock_gettime};
    let frequency_hz = u128::from(read_frequency_hz());
    let counted_ms = (u128::from(read_counter()) * 1000).checked_div(frequency_hz)?;
    let kernel = std::time::Duration::try_from(clock_gettime(ClockId::Boottime)).ok()?;
    u64::try_from(counted_ms.checked_sub(kernel.as_millis())?).ok()
}

/// Milliseconds that the machine had run when the kernel's clock began: x86
/// does not tell, for its counter may begin anywhere.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) fn before_kernel_ms() -> Option<u64> {
    None
}

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "a register can only be read by an instruction")]
fn read_counter() -> u64 {
    let count: u64;
    // SAFETY: CNTVCT_EL0 may be read at EL0: Linux sets CNTKCTL_EL1.EL0VCTEN,
    // as its vDSO needs it. The read changes nothing. ISB keeps it in order.
    unsafe {
        std::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nostack, nomem));
    }
    count
}

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "a register can only be read by an instruction")]
fn read_frequency_hz() -> u64 {
    let frequency_hz: u64;
    // SAFETY: as for CNTVCT_EL0: the same bit permits CNTFRQ_EL0.
    unsafe {
        std::arch::asm!("mrs {}, cntfrq_el0", out(reg) frequency_hz, options(nostack, nomem));
    }
    frequency_hz
}
