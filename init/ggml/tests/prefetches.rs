//! What the kernels ask for ahead of its use is asked for in what GCC made of them, too: it
//! may leave out a prefetch without a word, and no result tells.

#![cfg(target_arch = "x86_64")]

use std::process::Command;

/// What the kernels read: keys and values, and weights.
const READ: [&str; 8] = [
    "Float16", "Quants8", "Q4_K", "Q5_K", "Q6_K", "Q4_1", "Q8_0", "MXFP4",
];

#[test]
fn keys_values_and_weights_are_asked_for_ahead() {
    for level in ["avx2", "avx512"] {
        let object = format!("{}/ggml_cpu_{level}.o", env!("OUT_DIR"));
        let output = Command::new("objdump")
            .args(["-dC", "--no-show-raw-insn", &object])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let assembly = String::from_utf8(output.stdout).unwrap();
        // Functions, each after an empty line, which begin with their name. The instruction
        // stands behind a tab: a call of what is named so is none.
        let asking: Vec<&str> = assembly
            .split("\n\n")
            .filter(|function| function.contains("\tprefetch"))
            .filter_map(|function| function.lines().next())
            .collect();
        for what in READ {
            let named = asking.iter().any(|name| name.contains(what));
            assert!(named, "{level} asks for no {what}");
        }
    }
}
