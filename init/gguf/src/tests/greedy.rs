//! A header that wants as much memory as it may.

use std::io;
use std::process::Command;

use super::super::file::{KEYS_MAX, TENSORS_MAX};
use super::super::*;
use super::writer::Writer;

/// An endless file whose every part wants as much memory as it may.
struct Greedy {
    head: Vec<u8>,
    key_count: u64,
}

const GREEDY_KEY: usize = 8 + 1024 + 4 + 4 + 8 + 16 * 8;
const GREEDY_TENSOR: usize = 8 + 63 + 4 + 8 + 4 + 8;

impl Greedy {
    fn new() -> Self {
        let template = "x".repeat(1 << 20);
        let mut writer = Writer::empty()
            .text("general.architecture", "a")
            .text("tokenizer.chat_template", &template);
        let key_count = KEYS_MAX - writer.key_count;
        writer.key_count = KEYS_MAX;
        writer.tensor_count = TENSORS_MAX;
        Self {
            head: writer.header(),
            key_count,
        }
    }

    fn keys_end(&self) -> usize {
        self.head.len() + usize::try_from(self.key_count).unwrap() * GREEDY_KEY
    }

    fn byte(&self, at: usize) -> u8 {
        if let Some(byte) = self.head.get(at) {
            return *byte;
        }
        if at < self.keys_end() {
            let (n, i) = (
                (at - self.head.len()) / GREEDY_KEY,
                (at - self.head.len()) % GREEDY_KEY,
            );
            return match i {
                0..8 => 1024_u64.to_le_bytes()[i],
                8..1032 => digit(n, 1031 - i),
                1032..1036 => 9_u32.to_le_bytes()[i - 1032],
                1036..1040 => 10_u32.to_le_bytes()[i - 1036],
                1040..1048 => 16_u64.to_le_bytes()[i - 1040],
                _ => 0,
            };
        }
        let at = at - self.keys_end();
        let (n, i) = (at / GREEDY_TENSOR, at % GREEDY_TENSOR);
        match i {
            0..8 => 63_u64.to_le_bytes()[i],
            8..71 => digit(n, 70 - i),
            71..75 => 1_u32.to_le_bytes()[i - 71],
            75..83 => 8_u64.to_le_bytes()[i - 75],
            83..87 => 0,
            _ => (32 * n as u64).to_le_bytes()[i - 87],
        }
    }
}

/// The decimal digit of `n` with `place` digits to its right.
fn digit(n: usize, place: usize) -> u8 {
    let power = u32::try_from(place)
        .ok()
        .and_then(|p| 10_usize.checked_pow(p));
    b'0' + u8::try_from(power.map_or(0, |power| n / power % 10)).unwrap()
}

impl ReadAt for Greedy {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = self.byte(start + i);
        }
        Ok(())
    }
}

#[test]
fn the_greediest_header_needs_little_memory() {
    let module = module_path!().split_once("::").unwrap().1;
    let test = format!("{module}::measure_the_greediest_header");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", &test])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("1 passed"), "{out}");
}

#[test]
#[ignore = "measures its process; run by the_greediest_header_needs_little_memory"]
fn measure_the_greediest_header() {
    let peak_kib = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = peak_kib();
    let greedy = Greedy::new();
    let header = check(&greedy, 1 << 40).unwrap();
    assert_eq!(header.tensors.len() as u64, TENSORS_MAX);
    drop(header);
    let error = check(&Texts, 1 << 40).unwrap_err().to_string();
    assert!(
        error.contains("a metadata value has 1048576 bytes"),
        "{error}"
    );
    let grown = peak_kib() - before;
    assert!(grown < 16 << 10, "{grown} KiB");
}

/// A header of texts of 1 MiB, each the way to stretch positions of another architecture.
struct Texts;

impl ReadAt for Texts {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        const TEXT_BYTES: usize = 1 << 20;
        buf.fill(b'x');
        let head = Writer {
            key_count: KEYS_MAX,
            ..Writer::empty()
        };
        let length = (TEXT_BYTES as u64).to_le_bytes();
        let key = |n: usize| {
            let name = format!("a{n:04}.rope.scaling.type");
            Writer::empty().key(&name, 8, &length).keys
        };
        let (head, step) = (head.header(), key(0).len() + TEXT_BYTES);
        let keys = (0..256).map(|n| (head.len() + n * step, key(n)));
        for (at, bytes) in [(0, head.clone())].into_iter().chain(keys) {
            for (at, byte) in (at..).zip(bytes) {
                let at = at.checked_sub(usize::try_from(offset).unwrap());
                if let Some(there) = at.and_then(|at| buf.get_mut(at)) {
                    *there = byte;
                }
            }
        }
        Ok(())
    }
}
