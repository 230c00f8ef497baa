//! Which build of ggml-cpu runs on this processor. `build.rs` links one for each
//! level; exactly one is registered with ggml, and no other is ever entered.

#![expect(
    unsafe_code,
    reason = "each level's ggml-cpu is reached through one C function"
)]

use llama_cpp_sys_2 as sys;

#[cfg(target_arch = "x86_64")]
mod tiles;

/// Tokens of the widest pass whose logits are those of passes of one token, to
/// the bit: what the kernels are compiled for.
pub const PASS_TOKENS: usize = match usize::from_str_radix(env!("ZOSIA_PASS_TOKENS"), 10) {
    Ok(tokens) => tokens,
    Err(_) => panic!("build.rs gives a number"),
};

/// A build of ggml-cpu and what it asks of the processor.
pub struct Level {
    /// As `zosia.cpu=` names it.
    pub name: &'static str,
    /// What the compiler was told.
    flags: &'static str,
    register: unsafe extern "C" fn() -> sys::ggml_backend_reg_t,
    /// The first instruction-set extension that the level needs and this
    /// processor lacks.
    missing: fn() -> Option<&'static str>,
    /// Types of weights that a layout of their own makes faster on this level.
    pub repacked: &'static [sys::ggml_type],
}

/// Why no level was chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// No such level.
    #[error("zosia.cpu={name}: there is no such level; this processor runs {able} [ZE-45]")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The levels that would run.
        able: String,
    },
    /// The level needs what the processor lacks.
    #[error("zosia.cpu={name} needs {missing}, which this processor lacks; it runs {able} [ZE-45]")]
    Lacks {
        /// What was asked for.
        name: String,
        /// The extension.
        missing: &'static str,
        /// The levels that would run.
        able: String,
    },
    /// Not even the lowest level runs.
    #[error("this processor lacks {missing}; zosia needs at least level {lowest} [ZE-45]")]
    TooOld {
        /// The extension.
        missing: &'static str,
        /// The lowest level.
        lowest: &'static str,
    },
}

/// The first of the named extensions that std's detection does not find.
macro_rules! first_missing {
    ($detect:ident: $($feature:tt),+) => {{
        $(if !std::arch::$detect!($feature) { return Some($feature); })+
        None
    }};
}

#[cfg(target_arch = "aarch64")]
mod levels {
    use super::{Level, sys};

    /// Upstream's kernels for these are the best there are. Others are faster where
    /// they lie, with those in `ggml/neon.h`.
    const REPACKED: &[sys::ggml_type] = &[sys::GGML_TYPE_IQ4_NL, sys::GGML_TYPE_Q1_0];

    unsafe extern "C" {
        fn ggml_backend_cpu_reg_v80() -> sys::ggml_backend_reg_t;
        fn ggml_backend_cpu_reg_v82() -> sys::ggml_backend_reg_t;
        fn ggml_backend_cpu_reg_v86() -> sys::ggml_backend_reg_t;
    }

    /// Best first. An `-march` permits the compiler every extension that its
    /// architecture version makes mandatory, so those are asked for, too.
    pub(super) const LEVELS: &[Level] = &[
        Level {
            name: "v86",
            flags: env!("ZOSIA_FLAGS_v86"),
            register: ggml_backend_cpu_reg_v86,
            missing: || {
                first_missing!(is_aarch64_feature_detected:
                    "lse", "rdm", "crc", "dotprod", "fp16", "rcpc", "rcpc2", "fcma", "jsconv",
                    "frintts", "flagm", "bf16", "i8mm")
            },
            repacked: REPACKED,
        },
        Level {
            name: "v82",
            flags: env!("ZOSIA_FLAGS_v82"),
            register: ggml_backend_cpu_reg_v82,
            missing: || first_missing!(is_aarch64_feature_detected: "lse", "rdm", "crc", "dotprod", "fp16"),
            repacked: REPACKED,
        },
        Level {
            name: "v80",
            flags: env!("ZOSIA_FLAGS_v80"),
            register: ggml_backend_cpu_reg_v80,
            missing: || None,
            repacked: &[],
        },
    ];
}

#[cfg(target_arch = "x86_64")]
mod levels {
    use super::{Level, sys};

    unsafe extern "C" {
        fn ggml_backend_cpu_reg_x64() -> sys::ggml_backend_reg_t;
        fn ggml_backend_cpu_reg_avx2() -> sys::ggml_backend_reg_t;
        fn ggml_backend_cpu_reg_avx512() -> sys::ggml_backend_reg_t;
    }

    /// Best first.
    pub(super) const LEVELS: &[Level] = &[
        Level {
            name: "avx512",
            flags: env!("ZOSIA_FLAGS_avx512"),
            register: ggml_backend_cpu_reg_avx512,
            missing: || {
                first_missing!(is_x86_feature_detected:
                    "sse4.2", "popcnt", "avx2", "f16c", "fma", "bmi2", "avx512f", "avx512cd",
                    "avx512vl", "avx512dq", "avx512bw", "avx512vbmi", "avx512vnni", "avx512bf16")
            },
            repacked: &[],
        },
        Level {
            name: "avx2",
            flags: env!("ZOSIA_FLAGS_avx2"),
            register: ggml_backend_cpu_reg_avx2,
            missing: || {
                first_missing!(is_x86_feature_detected:
                    "sse4.2", "popcnt", "avx2", "f16c", "fma", "bmi2")
            },
            repacked: &[],
        },
        Level {
            name: "x64",
            flags: env!("ZOSIA_FLAGS_x64"),
            register: ggml_backend_cpu_reg_x64,
            missing: || first_missing!(is_x86_feature_detected: "sse4.2", "popcnt"),
            repacked: &[],
        },
    ];
}

/// The name of the level that would be used, or why none can be.
#[must_use]
pub fn level_name(wanted: Option<&str>) -> String {
    match choose(wanted) {
        Ok(level) => level.name.to_owned(),
        Err(e) => e.to_string(),
    }
}

/// What the compiler was told for the level called `name`.
#[must_use]
pub fn compiler_flags(name: &str) -> &'static str {
    let level = levels::LEVELS.iter().find(|level| level.name == name);
    level.map_or("", |level| level.flags)
}

/// The level called `name`, or without a name the best that this processor runs.
///
/// # Errors
/// [`CpuError`], naming what the processor runs instead.
pub fn choose(name: Option<&str>) -> Result<&'static Level, CpuError> {
    choose_from(levels::LEVELS, name)
}

fn choose_from<'a>(levels: &'a [Level], name: Option<&str>) -> Result<&'a Level, CpuError> {
    let able = || {
        let names: Vec<_> = levels
            .iter()
            .filter(|level| (level.missing)().is_none())
            .map(|level| level.name)
            .collect();
        names.join(", ")
    };
    let Some(name) = name else {
        let mut lacking = ("a level", "none");
        for level in levels {
            match (level.missing)() {
                None => return Ok(level),
                Some(missing) => lacking = (missing, level.name),
            }
        }
        let (missing, lowest) = lacking;
        return Err(CpuError::TooOld { missing, lowest });
    };
    let Some(level) = levels.iter().find(|level| level.name == name) else {
        return Err(CpuError::Unknown {
            name: name.to_owned(),
            able: able(),
        });
    };
    match (level.missing)() {
        None => Ok(level),
        Some(missing) => Err(CpuError::Lacks {
            name: name.to_owned(),
            missing,
            able: able(),
        }),
    }
}

/// Asks Linux for what the kernels would like to use and a confined process can no more ask
/// for: the tiles of AMX. Without, they do without.
pub fn ask_for_tiles() {
    #[cfg(target_arch = "x86_64")]
    tiles::may_be_used();
}

impl Level {
    /// Makes this level's ggml-cpu known to ggml. At most once a process:
    /// ggml's registry does not forget.
    pub fn register(&self) {
        // SAFETY: the function has no arguments and initialises static tables;
        // it may execute the level's instructions, which `choose` has found
        // this processor to have.
        let registry = unsafe { (self.register)() };
        // SAFETY: ggml-backend.h: takes a registry entry that lives as long as
        // the process; `registry` points to one with static storage.
        unsafe { sys::ggml_backend_register(registry) };
    }
}

#[cfg(test)]
mod kernels;

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn never() -> sys::ggml_backend_reg_t {
        std::ptr::null_mut()
    }

    fn level(name: &'static str, missing: fn() -> Option<&'static str>) -> Level {
        Level {
            name,
            flags: "",
            register: never,
            missing,
            repacked: &[],
        }
    }

    #[test]
    fn the_best_level_that_runs_is_chosen_and_a_named_one_is_checked() {
        let levels = [
            level("new", || Some("i8mm")),
            level("mid", || None),
            level("old", || None),
        ];
        assert_eq!(choose_from(&levels, None).ok().unwrap().name, "mid");
        assert_eq!(choose_from(&levels, Some("old")).ok().unwrap().name, "old");
        let error = choose_from(&levels, Some("new")).err().unwrap();
        assert_eq!(
            error.to_string(),
            "zosia.cpu=new needs i8mm, which this processor lacks; it runs mid, old [ZE-45]"
        );
        let error = choose_from(&levels, Some("v99")).err().unwrap();
        assert!(
            error
                .to_string()
                .ends_with("this processor runs mid, old [ZE-45]")
        );
        let error = choose_from(&levels[..1], None).err().unwrap();
        assert!(error.to_string().contains("lacks i8mm"), "{error}");
    }

    #[test]
    fn this_processor_runs_what_is_tested() {
        assert!(!kernels::tested().is_empty());
    }
}
