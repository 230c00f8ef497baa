//! Small files made here, damaged in every way, and a real one if
//! `ZOSIA_TEST_MODEL` names it.

use std::io;
use std::process::Command;

use super::*;

/// A GGUF file in the making.
#[derive(Clone)]
struct Writer {
    version: u32,
    key_count: u64,
    keys: Vec<u8>,
    tensor_count: u64,
    tensors: Vec<u8>,
    alignment: usize,
    data_bytes: usize,
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Writer {
    fn empty() -> Self {
        Self {
            version: 3,
            key_count: 0,
            keys: Vec::new(),
            tensor_count: 0,
            tensors: Vec::new(),
            alignment: 32,
            data_bytes: 0,
        }
    }

    fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.key_count += 1;
        self.keys.extend(text(key));
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self
    }

    fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4, &value.to_le_bytes())
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.key(key, 8, &text(value))
    }

    fn array(self, key: &str, kind: u32, count: u64, items: &[u8]) -> Self {
        let head = [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat();
        self.key(key, 9, &head)
    }

    /// Adds a tensor and as many bytes of data.
    fn tensor(mut self, name: &str, dims: &[u64], kind: u32, bytes: usize) -> Self {
        let offset = self.data_bytes.next_multiple_of(self.alignment);
        self.data_bytes = offset + bytes;
        self.tensor_at(name, dims, kind, offset as u64)
    }

    fn tensor_at(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        self.tensor_count += 1;
        self.tensors.extend(text(name));
        self.tensors
            .extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        for dim in dims {
            self.tensors.extend(dim.to_le_bytes());
        }
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.key_count.to_le_bytes());
        bytes.extend(&self.keys);
        bytes.extend(&self.tensors);
        bytes
    }

    fn file(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let data_offset = bytes.len().next_multiple_of(self.alignment);
        bytes.resize(data_offset + self.data_bytes, 0);
        bytes
    }
}

/// Two layers, the second without attention.
fn small() -> Writer {
    Writer::empty()
        .text("general.architecture", "toy")
        .text("general.name", "A \x1b[31mtoy")
        .u32("general.file_type", 15)
        .u32("toy.block_count", 2)
        .u32("toy.context_length", 4096)
        .u32("toy.embedding_length", 64)
        .array("toy.attention.head_count", 4, 2, &[4, 0, 0, 0, 4, 0, 0, 0])
        .array(
            "toy.attention.head_count_kv",
            5,
            2,
            &[2, 0, 0, 0, 0, 0, 0, 0],
        )
        .key("toy.rope.freq_base", 6, &1e4_f32.to_le_bytes())
        .array(
            "tokenizer.ggml.tokens",
            8,
            3,
            &[text("a"), text("bc"), text("")].concat(),
        )
        .array("tokenizer.ggml.scores", 6, 3, &[0; 12])
        .array("tokenizer.ggml.token_type", 5, 3, &[0; 12])
        .text("tokenizer.chat_template", "{{ messages }}")
        .tensor("token_embd.weight", &[256, 3], 12, 3 * 144)
        .tensor("blk.0.attn_q.weight", &[64, 2], 8, 2 * 2 * 34)
        .tensor("output_norm.weight", &[7], 0, 28)
}

fn check_bytes(bytes: &[u8]) -> Result<Header, GgufError> {
    check_at(bytes, bytes.len() as u64)
}

fn refused(writer: &Writer) -> String {
    check_bytes(&writer.file()).unwrap_err().to_string()
}

#[test]
fn tells_what_the_header_says() {
    let file = small().file();
    let header = check_bytes(&file).unwrap();
    assert_eq!(header.version, 3);
    assert_eq!(header.arch, "toy");
    assert_eq!(header.name.as_deref(), Some("A \u{fffd}[31mtoy"));
    assert_eq!(header.file_type, Some(15));
    assert_eq!(header.context_length, Some(4096));
    assert_eq!(header.head_count, [4, 4]);
    assert_eq!(header.head_count_kv, [2, 0]);
    assert_eq!(header.vocab_tokens, 3);
    assert_eq!(header.chat_template.as_deref(), Some("{{ messages }}"));
    assert_eq!(header.weights, 768 + 128 + 7);
    assert_eq!(header.data_end, file.len() as u64);
    assert_eq!(header.data_offset % 32, 0);
    let places: Vec<(&str, u32, u64, u64)> = header
        .tensors
        .iter()
        .map(|t| (&*t.name, t.kind, t.offset - header.data_offset, t.bytes))
        .collect();
    assert_eq!(
        places,
        [
            ("token_embd.weight", 12, 0, 432),
            ("blk.0.attn_q.weight", 8, 448, 136),
            ("output_norm.weight", 0, 608, 28),
        ]
    );
    let version_2 = Writer {
        version: 2,
        ..small()
    };
    assert_eq!(check_bytes(&version_2.file()).unwrap().version, 2);
}

#[test]
fn kv_bytes_follow_the_heads_of_each_layer() {
    let header = check_bytes(&small().file()).unwrap();
    // One layer of two has a cache: 2 heads of 64 / 4 values, keys and values.
    assert_eq!(header.kv_bytes_per_token(KvType::F16), 2 * (2 * 16) * 2);
    assert_eq!(header.kv_bytes_per_token(KvType::Q8_0), 2 * 34);
    // Phi-3.5: 32 layers of 32 heads of 96 values: 384 KiB a token.
    let phi = Header {
        block_count: Some(32),
        embedding_length: Some(3072),
        head_count: vec![32],
        head_count_kv: vec![32],
        ..header.clone()
    };
    assert_eq!(phi.kv_bytes_per_token(KvType::F16), 384 << 10);
    // Heads wider than the stream divided by their number; layers that share.
    let wide = Header {
        head_count_kv: vec![1],
        key_length: Some(256),
        value_length: Some(128),
        shared_kv_layers: 12,
        ..phi.clone()
    };
    assert_eq!(wide.kv_bytes_per_token(KvType::F16), 20 * (256 + 128) * 2);
    // Without head_count_kv every head has its own.
    let own = Header {
        head_count_kv: vec![],
        ..phi
    };
    assert_eq!(own.kv_bytes_per_token(KvType::F16), 384 << 10);
    let hostile = Header {
        block_count: Some(2048),
        head_count_kv: vec![u64::MAX],
        key_length: Some(u64::MAX),
        ..header
    };
    assert_eq!(hostile.kv_bytes_per_token(KvType::F16), u64::MAX);
    assert_eq!(hostile.kv_bytes_per_token(KvType::Q8_0), u64::MAX);
}

#[test]
fn a_cut_file_is_told_with_both_lengths() {
    let file = small().file();
    let whole = file.len();
    for there in [whole - 1, whole / 2 + 400, whole - 600] {
        let error = check_bytes(&file[..there]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "the file is cut: {there} of {whole} bytes are there; download or copy it again"
            )
        );
    }
    // A device is longer by the rest of its last sector.
    let mut device = file.clone();
    device.resize(whole.next_multiple_of(512), 0);
    assert_eq!(check_bytes(&device).unwrap().data_end, whole as u64);
}

#[test]
fn every_header_that_is_cut_is_refused_as_cut() {
    let file = small().file();
    let header_bytes = small().header().len();
    for there in 4..header_bytes {
        match check_bytes(&file[..there]) {
            Err(GgufError::CutHeader { at, there: end, .. }) => {
                assert!(at <= there as u64 && end == there as u64);
            }
            other => panic!("cut at {there}: {other:?}"),
        }
    }
    for there in header_bytes..file.len() {
        let cut = check_bytes(&file[..there]);
        assert!(
            matches!(cut, Err(GgufError::Cut { .. })),
            "{there}: {cut:?}"
        );
    }
    assert!(check_bytes(&[]).is_err());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry a refusal")]
fn each_refusal_names_what_is_wrong() {
    let long_name = "n".repeat(64);
    let table: &[(Writer, &str)] = &[
        (
            Writer {
                version: 1,
                ..small()
            },
            "of version 1 and versions 2 and 3",
        ),
        (
            Writer {
                version: 4,
                ..small()
            },
            "needs a newer zosia",
        ),
        (
            Writer {
                version: 3_u32.swap_bytes(),
                ..small()
            },
            "big-endian",
        ),
        (
            Writer {
                tensor_count: u64::MAX,
                ..small()
            },
            "the number of tensors is 18446744073709551615",
        ),
        (
            Writer {
                key_count: 5000,
                ..small()
            },
            "the number of metadata keys is 5000",
        ),
        (
            Writer {
                tensor_count: 0,
                ..small()
            },
            "a header without weights",
        ),
        (small().text("general.type", "adapter"), "an adapter (LoRA)"),
        (
            small()
                .key("split.count", 2, &[3, 0])
                .key("split.no", 2, &[1, 0]),
            "part 2 of a model split into 3 files",
        ),
        (
            small().u32("toy.block_count", 2),
            "\"toy.block_count\" is wrong: it is there twice",
        ),
        (small().key("x", 13, &[]), "13 is no type of value"),
        (small().key("", 0, &[1]), "a key is empty"),
        (small().array("x", 9, 1, &[0; 16]), "arrays of arrays"),
        (
            small().array("x", 0, 1 << 40, &[]),
            "an array's length is 1099511627776",
        ),
        (
            small().array("x", 0, 1 << 20, &[]),
            "the file is cut inside its header",
        ),
        (
            small().key("x", 8, &(1_u64 << 60).to_le_bytes()),
            "a metadata value has 1152921504606846976 bytes",
        ),
        (
            small().u32("general.alignment", 48),
            "48 is not a power of two",
        ),
        (
            small().u32("general.alignment", 0),
            "0 is not a power of two",
        ),
        (
            small().text("general.alignment", "32"),
            "it is not an unsigned number",
        ),
        (
            small().u32("tokenizer.ggml.merges", 1),
            "\"tokenizer.ggml.merges\" is wrong: it is no array of texts",
        ),
        (
            small().tensor(&long_name, &[1], 0, 4),
            "a tensor's name has 64 bytes",
        ),
        (small().tensor("", &[1], 0, 4), "a tensor's name is empty"),
        (
            small().tensor("a\x1bb", &[1], 0, 4),
            "a tensor's name is empty or no text",
        ),
        (
            small().tensor("output_norm.weight", &[1], 0, 4),
            "\"output_norm.weight\" is wrong: it is there twice",
        ),
        (small().tensor("t", &[1; 5], 0, 4), "it has 5 dimensions"),
        (
            small().tensor("t", &[4, 0], 0, 0),
            "its dimension 1 is zero",
        ),
        (
            small().tensor("t", &[1 << 32, 1 << 31], 0, 0),
            "too many weights",
        ),
        (
            small().tensor("t", &[u64::MAX, 2, 2], 0, 0),
            "too many weights",
        ),
        (small().tensor("t", &[1 << 62], 28, 0), "too many weights"),
        (small().tensor("t", &[32], 4, 18), "its type 4 is unknown"),
        (small().tensor("t", &[32], 43, 18), "its type 43 is unknown"),
        (
            small().tensor("t", &[32, 8], 12, 144),
            "rows of 32 weights are no whole q4_K blocks (256)",
        ),
        (
            small().tensor_at("t", &[1], 0, 1 << 20),
            "it is said to begin at 1048576, and the one before ends at 640",
        ),
        (
            small().tensor_at("t", &[1], 0, 7),
            "it begins at 7, which is no multiple of 32",
        ),
        (
            small().tensor_at("t", &[1], 0, 0),
            "it is said to begin at 0",
        ),
        (
            Writer::empty().tensor("t", &[1], 0, 4),
            "\"general.architecture\" is wrong: it is missing",
        ),
        (
            Writer::empty()
                .text("general.architecture", "a b")
                .tensor("t", &[1], 0, 4),
            "is not a name",
        ),
        (
            Writer::empty()
                .text("general.architecture", "clip")
                .tensor("t", &[1], 0, 4),
            "projector",
        ),
        (
            Writer::empty()
                .text("general.architecture", "a")
                .u32("a.block_count", 1 << 31)
                .tensor("t", &[1], 0, 4),
            "2147483648 layers",
        ),
        (
            Writer::empty()
                .text("general.architecture", "a")
                .array("tokenizer.ggml.tokens", 8, 1, &text("a"))
                .array("tokenizer.ggml.scores", 6, 2, &[0; 8])
                .tensor("t", &[1], 0, 4),
            "it has 2 items for 1 tokens",
        ),
        (
            Writer::empty()
                .text("general.architecture", "a")
                .array("tokenizer.ggml.scores", 0, 0, &[])
                .tensor("t", &[1], 0, 4),
            "no 32-bit numbers",
        ),
    ];
    for (writer, expected) in table {
        let error = refused(writer);
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
        assert!(error.contains("; ") && !error.contains('\n'), "{error:?}");
    }
    let error = check_bytes(b"<!DOCTYPE html>").unwrap_err().to_string();
    assert!(error.contains("begins with \"<!DO\" and not with \"GGUF\""));
}

#[test]
fn an_alignment_that_is_no_default_is_obeyed() {
    let mut writer = small();
    writer.tensors.clear();
    (writer.tensor_count, writer.data_bytes, writer.alignment) = (0, 0, 128);
    let writer = writer
        .u32("general.alignment", 128)
        .tensor("a", &[1], 0, 4)
        .tensor("b", &[1], 0, 4);
    let header = check_bytes(&writer.file()).unwrap();
    assert_eq!(header.data_offset % 128, 0);
    assert_eq!(header.data_end, header.data_offset + 132);
}

/// Whatever is accepted lies inside the file.
fn assert_inside(header: &Header, bytes: usize) {
    assert!(header.data_end <= bytes as u64);
    for tensor in &header.tensors {
        assert!(tensor.offset >= header.data_offset);
        assert!(tensor.offset + tensor.bytes <= header.data_end);
    }
    let _ = header.kv_bytes_per_token(KvType::F16);
    let _ = header.kv_bytes_per_token(KvType::Q8_0);
}

#[test]
fn no_flipped_bit_makes_it_panic() {
    let mut file = small().file();
    let mut refusals = 0;
    for at in 0..small().header().len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            match check_bytes(&file) {
                Ok(header) => assert_inside(&header, file.len()),
                Err(_) => refusals += 1,
            }
            file[at] ^= 1 << bit;
        }
    }
    assert!(refusals > 1000, "{refusals}");
}

#[test]
fn no_extreme_number_makes_it_panic() {
    let original = small().file();
    let extremes = [
        0,
        1,
        0x7f,
        0xff,
        0xffff,
        1 << 31,
        u64::from(u32::MAX),
        1 << 62,
        i64::MAX as u64,
        1 << 63,
        u64::MAX - 31,
        u64::MAX,
    ];
    for at in 0..small().header().len() {
        for width in [4, 8] {
            for extreme in extremes {
                let mut file = original.clone();
                let value = extreme.to_le_bytes();
                let end = (at + width).min(file.len());
                file[at..end].copy_from_slice(&value[..end - at]);
                if let Ok(header) = check_bytes(&file) {
                    assert_inside(&header, file.len());
                }
            }
        }
    }
}

#[test]
fn no_random_damage_makes_it_panic() {
    let original = small().file();
    let header_bytes = small().header().len() as u64;
    // xorshift64, the same numbers every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..20_000 {
        let mut file = original.clone();
        for _ in 0..=random(4) {
            let at = usize::try_from(random(header_bytes)).unwrap();
            file[at] = u8::try_from(random(256)).unwrap();
        }
        if random(8) == 0 {
            file.truncate(usize::try_from(random(header_bytes)).unwrap());
        }
        if let Ok(header) = check_bytes(&file) {
            assert_inside(&header, file.len());
        }
    }
}

#[test]
fn a_failing_disk_is_told_with_its_offset() {
    struct Failing(Vec<u8>);
    impl ReadAt for Failing {
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            if offset >= 256 << 10 {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.0.read_exact_at(buf, offset)
        }
    }
    let file = small().text("x", &"x".repeat(300 << 10)).file();
    let error = check_at(&Failing(file.clone()), file.len() as u64).unwrap_err();
    match error {
        GgufError::Read { at, source } => {
            assert!(at >= 256 << 10 && source.raw_os_error() == Some(5));
        }
        other => panic!("{other}"),
    }
}

/// A file without end whose every part wants as much memory as it may.
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
    let greedy = Greedy::new();
    let before = peak_kib();
    let header = check_at(&greedy, 1 << 40).unwrap();
    let grown = peak_kib() - before;
    assert_eq!(header.tensors.len() as u64, TENSORS_MAX);
    assert!(grown < 16 << 10, "{grown} KiB");
    drop(header);
}

#[test]
fn a_real_model_is_accepted_and_refused_when_cut() {
    let Some(path) = std::env::var_os("ZOSIA_TEST_MODEL") else {
        return;
    };
    let file = File::open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    let header = check(&file, bytes).unwrap();
    assert!(header.data_end <= bytes && bytes - header.data_end < 4096);
    assert!(header.vocab_tokens > 1000 && header.kv_bytes_per_token(KvType::F16) > 0);
    for there in [bytes / 10, bytes / 2, header.data_end - 1] {
        let cut = check(&file, there).unwrap_err().to_string();
        let expected = format!("the file is cut: {there} of {} bytes", header.data_end);
        assert!(cut.starts_with(&expected), "{cut}");
    }
}
