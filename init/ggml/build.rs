//! Compiles ggml-cpu once for each processor level.
//!
//! llama-cpp-sys-2 builds llama.cpp without ggml-cpu (`GGML_CPU=OFF` in
//! `.cargo/config.toml`), because upstream knows only two ways: one level fixed
//! at build time, or shared libraries. Here the vendored sources are compiled
//! once a level, each copy becomes one relocatable object whose only global
//! symbol is `ggml_backend_cpu_reg_<level>`, and all are linked side by side;
//! the library registers the one that the processor runs best.
//!
//! What zosia does otherwise than ggml is in `kernels/` and compiled with each level.
//!
//! The levels take minutes. With `ZOSIA_CACHE` set, their objects are kept
//! there under a hash of everything that goes into them.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A processor level: its name, as `zosia.cpu=` and the library know it, and
/// the compiler flags that permit its instructions.
struct Level {
    name: &'static str,
    flags: &'static [&'static str],
}

/// SVE kernels in ggml are written for one vector length at a time and lose to
/// NEON on the 128-bit units that exist: kept out.
const AARCH64: &[Level] = &[
    Level {
        name: "v80",
        flags: &["-march=armv8-a"],
    },
    Level {
        name: "v82",
        flags: &["-march=armv8.2-a+dotprod+fp16"],
    },
    Level {
        name: "v86",
        flags: &["-march=armv8.6-a+dotprod+fp16+i8mm+nosve"],
    },
];

const X86_64: &[Level] = &[
    Level {
        name: "x64",
        flags: &["-msse4.2"],
    },
    Level {
        name: "avx2",
        flags: &["-msse4.2", "-mavx2", "-mf16c", "-mfma", "-mbmi2"],
    },
    Level {
        name: "avx512",
        flags: &[
            "-msse4.2",
            "-mavx2",
            "-mf16c",
            "-mfma",
            "-mbmi2",
            "-mavx512f",
            "-mavx512cd",
            "-mavx512vl",
            "-mavx512dq",
            "-mavx512bw",
            "-mavx512vbmi",
            "-mavx512vnni",
            "-mavx512bf16",
        ],
    },
];

/// ggml-cpu's sources that every architecture compiles, as upstream's
/// `ggml-cpu/CMakeLists.txt` lists them.
const C_SOURCES: &[&str] = &["quants.c"];
const CXX_SOURCES: &[&str] = &[
    "ggml-cpu.cpp",
    "repack.cpp",
    "hbm.cpp",
    "traits.cpp",
    "amx/amx.cpp",
    "amx/mmq.cpp",
    "tiled/tiled-kernel.cpp",
    "binary-ops.cpp",
    "unary-ops.cpp",
    "vec.cpp",
];

/// zosia's own are in this directory: relative, as cargo runs this in the package's, so
/// that no assertion carries the checkout's path into the artefact.
const OWN_DIR: &str = "kernels";

/// Each includes an upstream file and takes its place, but for `pool.cpp`.
const OWN_C_SOURCES: &[&str] = &["graph.c"];
const OWN_CXX_SOURCES: &[&str] = &["attention.cpp", "pool.cpp", "sgemm.cpp", "tiled.cpp"];

/// Tokens of the widest pass that must compute what passes of one token do.
const PASS_TOKENS: &str = "8";

/// Joins a level's objects. COMDAT groups are dissolved: else the final link
/// would keep one copy (say the AVX-512 one) of each inline function for all.
const PARTIAL_LINK: &[&str] = &["-r", "-nostdlib", "-Wl,--force-group-allocation"];

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-env-changed=ZOSIA_CACHE");
    let out = PathBuf::from(cargo_env("OUT_DIR")?);
    let source = Source::find()?;
    let toolchain = Toolchain::find()?;
    let (levels, arch_dir) = match cargo_env("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "aarch64" => (AARCH64, "arm"),
        "x86_64" => (X86_64, "x86"),
        other => return Err(format!("no processor levels are defined for {other}").into()),
    };
    let sources = source.digest()?;
    let mut archive = cc::Build::new();
    for level in levels {
        let object = out.join(format!("ggml_cpu_{}.o", level.name));
        let kept = cache_path(level, &sources, &source, &toolchain)?;
        match kept.as_deref() {
            Some(kept) if kept.exists() => {
                fs::copy(kept, &object).map_err(named(kept))?;
            }
            _ => {
                build_level(level, arch_dir, &source, &toolchain, &out, &object)?;
                if let Some(kept) = kept {
                    keep(&object, &kept)?;
                }
            }
        }
        archive.object(object);
        // For a comparison with another build of the same flags.
        let flags = level.flags.join(" ");
        println!("cargo:rustc-env=ZOSIA_FLAGS_{}={flags}", level.name);
    }
    println!("cargo:rustc-env=ZOSIA_PASS_TOKENS={PASS_TOKENS}");
    archive
        .cargo_metadata(false)
        .try_compile("ggml_cpu_levels")?;
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=ggml_cpu_levels");
    Ok(())
}

/// ggml's sources as vendored by llama-cpp-sys-2.
struct Source {
    /// `…/llama.cpp/ggml`.
    ggml: PathBuf,
}

impl Source {
    /// Follows llama-cpp-sys-2's build metadata to the `CMake` cache, which names
    /// the folder that was configured.
    fn find() -> Result<Self> {
        let cmake_dir = cargo_env("DEP_LLAMA_GGML_CMAKE_DIR").map_err(
            |_| "llama-cpp-sys-2 does not export GGML_CMAKE_DIR; zosia needs exactly 0.1.161",
        )?;
        let cache = Path::new(&cmake_dir).join("../../build/CMakeCache.txt");
        let text = fs::read_to_string(&cache).map_err(named(&cache))?;
        if !text.lines().any(|line| line == "GGML_CPU:BOOL=OFF") {
            return Err(
                "llama-cpp-sys-2 was built with its own ggml-cpu, which would clash with \
                 zosia's; build from inside the checkout, where .cargo/config.toml sets \
                 GGML_CPU=OFF (and `cargo clean -p llama-cpp-sys-2` once)"
                    .into(),
            );
        }
        let home = text
            .lines()
            .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="))
            .ok_or_else(|| format!("{} names no source folder", cache.display()))?;
        let ggml = Path::new(home).join("ggml");
        println!(
            "cargo:rerun-if-changed={}",
            ggml.join("src/ggml-cpu").display()
        );
        Ok(Self { ggml })
    }

    fn cpu_dir(&self) -> PathBuf {
        self.ggml.join("src/ggml-cpu")
    }

    /// A hash of every file that a level's compilation can read.
    fn digest(&self) -> Result<[u8; 32]> {
        let mut files = Vec::new();
        list_files(&self.cpu_dir(), true, &mut files)?;
        list_files(&self.ggml.join("src"), false, &mut files)?;
        list_files(&self.ggml.join("include"), false, &mut files)?;
        files.sort();
        let mut hash = Sha256::new();
        for file in files {
            let name = file.strip_prefix(&self.ggml)?;
            hash.update(name.to_string_lossy().as_bytes());
            hash.update([0]);
            hash.update(Sha256::digest(fs::read(&file).map_err(named(&file))?));
        }
        let mut own = Vec::new();
        list_files(Path::new(OWN_DIR), false, &mut own)?;
        own.sort();
        for file in own {
            hash.update(fs::read(&file).map_err(named(&file))?);
        }
        Ok(hash.finalize().into())
    }
}

fn list_files(dir: &Path, deep: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(named(dir))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(entry.path());
        } else if deep && kind.is_dir() {
            list_files(&entry.path(), deep, files)?;
        }
    }
    Ok(())
}

/// What compiles and joins the objects.
struct Toolchain {
    /// GCC or Clang for C, also the driver of the partial link.
    cc: PathBuf,
    objcopy: PathBuf,
    /// All that `--version` prints: part of the cache's key.
    versions: String,
}

impl Toolchain {
    fn find() -> Result<Self> {
        let target = cargo_env("TARGET")?;
        let cc = cc::Build::new().try_get_compiler()?.path().to_owned();
        let cxx = cc::Build::new()
            .cpp(true)
            .try_get_compiler()?
            .path()
            .to_owned();
        let variable = format!("OBJCOPY_{}", target.replace('-', "_"));
        println!("cargo:rerun-if-env-changed={variable}");
        println!("cargo:rerun-if-env-changed=OBJCOPY");
        let cross = target != cargo_env("HOST")?;
        let objcopy = env::var_os(&variable)
            .or_else(|| env::var_os("OBJCOPY"))
            .unwrap_or_else(|| match target.as_str() {
                "aarch64-unknown-linux-gnu" if cross => "aarch64-linux-gnu-objcopy".into(),
                _ => "objcopy".into(),
            });
        let mut versions = target;
        for (tool, package) in [
            (cc.as_os_str(), "gcc-aarch64-linux-gnu (or gcc)"),
            (cxx.as_os_str(), "g++-aarch64-linux-gnu (or g++)"),
            (&objcopy, "binutils-aarch64-linux-gnu (or binutils)"),
        ] {
            let output = Command::new(tool)
                .arg("--version")
                .output()
                .map_err(|e| format!("{} does not run ({e}); install {package}", tool.display()))?;
            versions.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        Ok(Self {
            cc,
            objcopy: objcopy.into(),
            versions,
        })
    }
}

/// Compiles one level and joins it into `object`.
fn build_level(
    level: &Level,
    arch_dir: &str,
    source: &Source,
    toolchain: &Toolchain,
    out: &Path,
    object: &Path,
) -> Result<()> {
    let dir = out.join(level.name);
    fs::create_dir_all(&dir).map_err(named(&dir))?;
    let cpu = source.cpu_dir();
    let mut c: Vec<PathBuf> = C_SOURCES.iter().map(|file| cpu.join(file)).collect();
    c.push(cpu.join(format!("arch/{arch_dir}/quants.c")));
    let mut cxx: Vec<PathBuf> = CXX_SOURCES.iter().map(|file| cpu.join(file)).collect();
    cxx.push(cpu.join(format!("arch/{arch_dir}/repack.cpp")));
    let own = Path::new(OWN_DIR);
    c.extend(OWN_C_SOURCES.iter().map(|file| own.join(file)));
    cxx.extend(OWN_CXX_SOURCES.iter().map(|file| own.join(file)));

    let mut objects = compiler(level, source, &dir, false)
        .files(c)
        .try_compile_intermediates()?;
    objects.extend(
        compiler(level, source, &dir, true)
            .files(cxx)
            .try_compile_intermediates()?,
    );

    run(Command::new(&toolchain.cc)
        .args(PARTIAL_LINK)
        .arg("-o")
        .arg(object)
        .args(&objects))?;
    run(Command::new(&toolchain.objcopy)
        .arg(format!("--keep-global-symbol={}", register_symbol(level)))
        .arg(object))?;
    fs::remove_dir_all(&dir).map_err(named(&dir))?;
    Ok(())
}

fn compiler(level: &Level, source: &Source, dir: &Path, cpp: bool) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(cpp)
        .cpp_link_stdlib(None)
        .std(if cpp { "c++17" } else { "gnu11" })
        .opt_level(3)
        .debug(false)
        .pic(true)
        .warnings(false)
        .include(source.ggml.join("include"))
        .include(source.ggml.join("src"))
        .include(source.cpu_dir())
        .out_dir(dir)
        .define("NDEBUG", None)
        .define("_GNU_SOURCE", None)
        .define("_XOPEN_SOURCE", "600")
        .define("GGML_SCHED_MAX_COPIES", "4")
        .define("GGML_USE_LLAMAFILE", None)
        .define("GGML_USE_CPU_REPACK", None)
        .define("ZOSIA_PASS_TOKENS", PASS_TOKENS)
        .define("ggml_backend_cpu_reg", register_symbol(level).as_str())
        // objcopy cannot localise STB_GNU_UNIQUE symbols.
        .flag_if_supported("-fno-gnu-unique")
        .flag("-ffunction-sections")
        .flag("-fdata-sections")
        // Assertions carry file names: no build machine's paths in the artefact.
        .flag(format!("-ffile-prefix-map={}=ggml", source.ggml.display()));
    for flag in level.flags {
        build.flag(flag);
    }
    build
}

fn register_symbol(level: &Level) -> String {
    format!("ggml_backend_cpu_reg_{}", level.name)
}

/// Where the level's object is kept between checkouts, if anywhere: under a
/// hash of the sources, the tools and their arguments.
fn cache_path(
    level: &Level,
    sources: &[u8; 32],
    source: &Source,
    toolchain: &Toolchain,
) -> Result<Option<PathBuf>> {
    let Some(root) = env::var_os("ZOSIA_CACHE") else {
        return Ok(None);
    };
    let mut hash = Sha256::new();
    hash.update(sources);
    hash.update(&toolchain.versions);
    // Trying a flag leaves files behind: not among the sources.
    let out = PathBuf::from(cargo_env("OUT_DIR")?);
    for cpp in [false, true] {
        let compiler = compiler(level, source, &out, cpp).try_get_compiler()?;
        hash.update(format!("{:?}", compiler.args()));
    }
    hash.update(format!(
        "{C_SOURCES:?} {CXX_SOURCES:?} {OWN_C_SOURCES:?} {OWN_CXX_SOURCES:?} {PARTIAL_LINK:?}"
    ));
    let mut key = String::new();
    for byte in hash.finalize().iter().take(16) {
        write!(key, "{byte:02x}")?;
    }
    let folder = Path::new(&root).join("ggml-cpu");
    Ok(Some(folder.join(format!("{}-{key}.o", level.name))))
}

/// Copies `object` into the cache; two builds at once cannot see half of it.
fn keep(object: &Path, kept: &Path) -> Result<()> {
    if let Some(folder) = kept.parent() {
        fs::create_dir_all(folder).map_err(named(folder))?;
    }
    let unfinished = kept.with_extension(format!("{}.tmp", std::process::id()));
    fs::copy(object, &unfinished).map_err(named(&unfinished))?;
    fs::rename(&unfinished, kept).map_err(named(kept))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

fn cargo_env(name: &str) -> Result<String> {
    env::var(name).map_err(|e| format!("{name}: {e}").into())
}

/// Says which file an I/O error is about.
fn named(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}
