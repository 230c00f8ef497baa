//! Has the engine open files as its `src/part.rs` says.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-Wl,--wrap=ggml_fopen");
}
