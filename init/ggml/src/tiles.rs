//! The tiles of AMX, which kernels of the level avx512 multiply with where they may.

#![expect(
    unsafe_code,
    reason = "the kernels, in C++, ask by a symbol, and Linux by a system call"
)]

use std::arch::x86_64::__cpuid_count;
use std::ffi::{c_int, c_long};
use std::sync::OnceLock;

use linux_raw_sys::general::__NR_arch_prctl;

/// The processor's bits, of leaf 7's edx.
const AMX_TILE: u32 = 1 << 24;
const AMX_INT8: u32 = 1 << 25;

/// linux/arch/x86/include/uapi/asm/prctl.h and asm/fpu/types.h.
const ARCH_REQ_XCOMP_PERM: c_int = 0x1023;
const XFEATURE_XTILE_DATA: c_int = 18;

unsafe extern "C" {
    /// `syscall(2)`.
    fn syscall(number: c_long, ...) -> c_long;
}

/// Whether the processor has tiles and Linux lets this process use them, which it asks for
/// the first time that somebody wants to know.
pub(crate) fn may_be_used() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        // Leaves are 7 at least where there is a level that asks.
        let bits = __cpuid_count(7, 0).edx;
        bits & AMX_TILE != 0 && bits & AMX_INT8 != 0 && {
            // SAFETY: arch_prctl(2): with this request and a number the call reads and
            // writes no memory of the process.
            let status = unsafe {
                syscall(
                    __NR_arch_prctl.into(),
                    ARCH_REQ_XCOMP_PERM,
                    XFEATURE_XTILE_DATA,
                )
            };
            status == 0
        }
    })
}

/// The same for kernels/tiles.h.
// SAFETY: nothing else that is linked has this name.
#[unsafe(no_mangle)]
extern "C" fn zosia_has_tiles() -> bool {
    may_be_used()
}
