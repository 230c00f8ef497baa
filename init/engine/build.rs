//! Compiles `guarded.cpp` against the headers of llama-cpp-sys-2, and has tests open
//! files as `src/part.rs` says.

use std::path::Path;
use std::process::exit;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=guarded.cpp");
    println!("cargo:rustc-link-arg=-Wl,--wrap=ggml_fopen");
    // OUT_DIR/lib/cmake of llama-cpp-sys-2, which installs headers beside it.
    let cmake_dir = std::env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").unwrap_or_default();
    let include = Path::new(&cmake_dir).join("../../include");
    let mut build = cc::Build::new();
    if std::env::var_os("CARGO_FEATURE_ASAN").is_some() {
        build.flag("-fsanitize=address");
    }
    let compiled = build
        .cpp(true)
        .std("c++17")
        .include(include)
        .file("guarded.cpp")
        // llama-cpp-sys-2 links the C++ library, statically.
        .cpp_link_stdlib(None)
        .try_compile("guarded");
    if let Err(e) = compiled {
        eprintln!("guarded.cpp cannot be compiled: {e}");
        exit(1);
    }
}
