//! What the levels' kernels compute, beside the same in f64.

#![expect(
    unsafe_code,
    reason = "ggml's graphs, of the one operation that is tested"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "what makes one call sound makes its neighbours so"
)]

use std::ops::Range;
use std::{mem, ptr};

use fastrand::Rng;
use llama_cpp_sys_2 as sys;

use super::{Level, PASS_TOKENS, choose, levels};

const F16: sys::ggml_type = sys::GGML_TYPE_F16;
const F32: sys::ggml_type = sys::GGML_TYPE_F32;
const Q8_0: sys::ggml_type = sys::GGML_TYPE_Q8_0;

/// Widths of passes, and of batches: those around what kernels take at once.
const WIDTHS: [usize; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 23, 128, 141];

/// The level that `ZOSIA_TEST_LEVEL` names, which the processor has to run;
/// without it, all that the processor runs.
pub(super) fn tested() -> Vec<&'static Level> {
    match std::env::var("ZOSIA_TEST_LEVEL") {
        Ok(name) => vec![choose(Some(&name)).unwrap()],
        Err(_) => levels::LEVELS
            .iter()
            .filter(|level| (level.missing)().is_none())
            .collect(),
    }
}

/// Numbers of a normal distribution, or near enough.
fn normal(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count)
        .map(|_| (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0)
        .collect()
}

/// Numbers as a type of ggml holds them. Rounding takes longer than most of what
/// is computed from them: done once for all levels and widths.
#[derive(Clone)]
struct Numbers {
    kind: sys::ggml_type,
    /// Innermost first.
    shape: [usize; 3],
    bytes: Vec<u8>,
}

impl Numbers {
    fn new(kind: sys::ggml_type, shape: [usize; 3], floats: &[f32]) -> Self {
        assert_eq!(floats.len(), shape.iter().product::<usize>());
        let [width, height, depth] = shape.map(|size| i64::try_from(size).unwrap());
        let rows = height * depth;
        // SAFETY: ggml.h: a getter.
        let row = unsafe { sys::ggml_row_size(kind, width) };
        let mut bytes = vec![0_u8; row * usize::try_from(rows).unwrap()];
        // SAFETY: ggml.h: `rows` rows of `width` floats are read, and as many of
        // `row` bytes written, which is what `floats` and `bytes` hold.
        unsafe {
            let to = bytes.as_mut_ptr().cast();
            sys::ggml_quantize_chunk(kind, floats.as_ptr(), to, 0, rows, width, ptr::null());
        }
        Self { kind, shape, bytes }
    }

    /// What they are, rounded.
    fn rounded(&self) -> Vec<f64> {
        let count = self.shape.iter().product::<usize>();
        let mut floats = vec![0_f32; count];
        // SAFETY: ggml.h: the traits are static; the conversion reads as many
        // elements as the bytes hold, and writes as many floats.
        unsafe {
            let count = i64::try_from(count).unwrap();
            match (*sys::ggml_get_type_traits(self.kind)).to_float {
                Some(to_float) => to_float(self.bytes.as_ptr().cast(), floats.as_mut_ptr(), count),
                None => floats
                    .iter_mut()
                    .zip(self.bytes.as_chunks().0)
                    .for_each(|(float, bytes)| *float = f32::from_ne_bytes(*bytes)),
            }
        }
        floats.into_iter().map(f64::from).collect()
    }
}

/// A graph's tensors, and what the leaves hold.
struct Graph<'a> {
    context: *mut sys::ggml_context,
    leaves: Vec<(*mut sys::ggml_tensor, &'a [u8])>,
}

impl<'a> Graph<'a> {
    fn new() -> Self {
        // SAFETY: ggml.h: sizes only; nothing is allocated for the tensors' data.
        let context = unsafe {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: 16 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead(),
                mem_buffer: ptr::null_mut(),
                no_alloc: true,
            })
        };
        assert!(!context.is_null());
        Self {
            context,
            leaves: Vec::new(),
        }
    }

    /// A leaf that holds `numbers`.
    fn leaf(&mut self, numbers: &'a Numbers) -> *mut sys::ggml_tensor {
        let [width, height, depth] = numbers.shape.map(|size| i64::try_from(size).unwrap());
        // SAFETY: ggml.h: the context is open and has room for 16 tensors.
        let tensor =
            unsafe { sys::ggml_new_tensor_3d(self.context, numbers.kind, width, height, depth) };
        self.leaves.push((tensor, &numbers.bytes));
        tensor
    }

    /// A leaf as a context holds keys and values, heads side by side: a view with
    /// the heads outermost.
    fn cache(&mut self, numbers: &'a Numbers) -> *mut sys::ggml_tensor {
        let leaf = self.leaf(numbers);
        // SAFETY: ggml.h: the leaf is of the open context.
        unsafe { sys::ggml_permute(self.context, leaf, 0, 2, 1, 3) }
    }

    /// Computes `output` with `level`'s kernels and `threads` threads.
    fn compute(&self, level: &Level, output: *mut sys::ggml_tensor, threads: i32) -> Vec<f32> {
        // SAFETY: ggml-backend.h: the registry entry is static, of a level that this
        // processor runs; the backend and the buffer live until the end of the
        // block, each leaf gets as many bytes as its tensor has, and the output is
        // contiguous and f32.
        unsafe {
            let device = sys::ggml_backend_reg_dev_get((level.register)(), 0);
            let backend = sys::ggml_backend_dev_init(device, ptr::null());
            let set_threads = sys::ggml_backend_reg_get_proc_address(
                (level.register)(),
                c"ggml_backend_set_n_threads".as_ptr(),
            );
            let set_threads: sys::ggml_backend_set_n_threads_t = mem::transmute(set_threads);
            set_threads.unwrap()(backend, threads);
            let graph = sys::ggml_new_graph(self.context);
            sys::ggml_build_forward_expand(graph, output);
            let buffer = sys::ggml_backend_alloc_ctx_tensors(self.context, backend);
            assert!(!buffer.is_null());
            // As those of a model: threads share their products piece by piece.
            sys::ggml_backend_buffer_set_usage(buffer, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            for (tensor, bytes) in &self.leaves {
                assert_eq!(sys::ggml_nbytes(*tensor), bytes.len());
                sys::ggml_backend_tensor_set(*tensor, bytes.as_ptr().cast(), 0, bytes.len());
            }
            let status = sys::ggml_backend_graph_compute(backend, graph);
            assert_eq!(status, sys::GGML_STATUS_SUCCESS);
            let mut floats = vec![0_f32; sys::ggml_nbytes(output) / size_of::<f32>()];
            let bytes = size_of_val(floats.as_slice());
            sys::ggml_backend_tensor_get(output, floats.as_mut_ptr().cast(), 0, bytes);
            sys::ggml_backend_buffer_free(buffer);
            sys::ggml_backend_free(backend);
            floats
        }
    }
}

impl Drop for Graph<'_> {
    fn drop(&mut self) {
        // SAFETY: ggml.h: the context is open, and nothing uses it afterwards.
        unsafe { sys::ggml_free(self.context) };
    }
}

/// Rows and their length: not multiples of what kernels take at once, but of the largest
/// block.
const ROWS: usize = 75;
const LENGTH: usize = 3 * 256;

/// Those with kernels.
const KINDS: [sys::ggml_type; 7] = [
    sys::GGML_TYPE_Q4_0,
    sys::GGML_TYPE_Q4_1,
    sys::GGML_TYPE_Q8_0,
    sys::GGML_TYPE_Q4_K,
    sys::GGML_TYPE_Q5_K,
    sys::GGML_TYPE_Q6_K,
    sys::GGML_TYPE_MXFP4,
];

fn norm(numbers: &[f64]) -> f64 {
    numbers.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Blocks of a row: one, and more than kernels take at once.
const BLOCKS: [usize; 2] = [1, 6];

#[test]
fn products_are_right_and_do_not_depend_on_the_columns_beside() {
    let mut rng = Rng::with_seed(1);
    for kind in KINDS {
        // SAFETY: ggml.h: a getter.
        let block = usize::try_from(unsafe { sys::ggml_blck_size(kind) }).unwrap();
        for blocks in BLOCKS {
            check_products(kind, blocks * block, &mut rng);
        }
    }
}

/// Rows of `length` weights, with columns of all [`WIDTHS`].
fn check_products(kind: sys::ggml_type, length: usize, rng: &mut Rng) {
    let weights = normal(rng, ROWS * length);
    let columns = normal(rng, WIDTHS.iter().max().unwrap() * length);
    let wide: Vec<f64> = columns.iter().copied().map(f64::from).collect();
    let rows = Numbers::new(kind, [length, ROWS, 1], &weights);
    let rounded = rows.rounded();
    // For each column and row, what is right and how large it can be.
    let right: Vec<(f64, f64)> = wide
        .chunks(length)
        .flat_map(|y| rounded.chunks(length).map(move |x| (x, y)))
        .map(|(x, y)| (x.iter().zip(y).map(|(x, y)| x * y).sum(), norm(x) * norm(y)))
        .collect();
    // Activations are rounded to eight bits, which evens out.
    let most = 0.055 / f64::from(u16::try_from(length).unwrap()).sqrt();
    for level in tested() {
        let product = |columns: &[f32], threads| {
            let columns = Numbers::new(F32, [length, columns.len() / length, 1], columns);
            let mut graph = Graph::new();
            let (x, y) = (graph.leaf(&rows), graph.leaf(&columns));
            // SAFETY: ggml.h: both are of the open context and of one length.
            let output = unsafe { sys::ggml_mul_mat(graph.context, x, y) };
            graph.compute(level, output, threads)
        };
        let passes = columns.chunks(length).take(PASS_TOKENS);
        let alone: Vec<Vec<f32>> = passes.map(|column| product(column, 1)).collect();
        for width in WIDTHS {
            let what = || format!("{}, type {kind}, {length} x {width}", level.name);
            let together = product(&columns[..width * length], 4);
            assert_eq!(together.len(), width * ROWS, "{}", what());
            for (at, (got, (right, size))) in together.iter().zip(&right).enumerate() {
                let error = (f64::from(*got) - right).abs() / size;
                assert!(error < most, "{} at {at}: {got}, not {right}", what());
            }
            if width <= PASS_TOKENS {
                assert_eq!(together, alone[..width].concat(), "{}", what());
            }
            // With AVX-512 what fills tiles is multiplied otherwise, where there are any.
            if level.name == "avx512" && kind != sys::GGML_TYPE_Q4_0 && width > PASS_TOKENS {
                let fewest = product(&columns[..(PASS_TOKENS + 1) * length], 1);
                assert_eq!(together[..fewest.len()], fewest, "{}", what());
            }
        }
    }
}

/// Experts, and how many of them each token has chosen.
const EXPERTS: usize = 5;
const CHOSEN: usize = 2;

/// What some tokens have chosen, the first expert oftener than others: of each, the first
/// and another.
fn choices(rng: &mut Rng, tokens: usize) -> Vec<usize> {
    let of_token = |_| {
        let first = if rng.bool() { 0 } else { rng.usize(1..EXPERTS) };
        [first, (first + rng.usize(1..EXPERTS)) % EXPERTS]
    };
    (0..tokens).flat_map(of_token).collect()
}

#[test]
fn products_with_experts_are_right_and_do_not_depend_on_the_tokens_beside() {
    let most = *WIDTHS.iter().max().unwrap();
    let mut rng = Rng::with_seed(3);
    let weights = normal(&mut rng, EXPERTS * ROWS * LENGTH);
    let columns = normal(&mut rng, most * CHOSEN * LENGTH);
    let choices = choices(&mut rng, most);
    let upstream = [sys::GGML_TYPE_Q3_K, F16];
    for kind in KINDS.into_iter().chain(upstream) {
        let experts = Numbers::new(kind, [LENGTH, ROWS, EXPERTS], &weights);
        let rounded = experts.rounded();
        // A token has a column for each of its choices, or one for all.
        for each in [1, CHOSEN] {
            let right: Vec<(f64, f64)> = choices
                .iter()
                .enumerate()
                .flat_map(|(at, expert)| {
                    let column = if each == 1 { at / CHOSEN } else { at };
                    let column = &columns[column * LENGTH..][..LENGTH];
                    let column: Vec<f64> = column.iter().copied().map(f64::from).collect();
                    let rows = rounded[expert * ROWS * LENGTH..][..ROWS * LENGTH].chunks(LENGTH);
                    let product = |x: &[f64]| {
                        let sum = x.iter().zip(&column).map(|(x, y)| x * y).sum();
                        (sum, norm(x) * norm(&column))
                    };
                    rows.map(product).collect::<Vec<_>>()
                })
                .collect();
            for level in tested() {
                let product = |tokens: Range<usize>, threads| {
                    let part = &columns[tokens.start * each * LENGTH..tokens.end * each * LENGTH];
                    let columns = Numbers::new(F32, [LENGTH, each, tokens.len()], part);
                    let part = &choices[tokens.start * CHOSEN..tokens.end * CHOSEN];
                    let bytes = part
                        .iter()
                        .flat_map(|expert| i32::try_from(*expert).unwrap().to_ne_bytes());
                    let chosen = Numbers {
                        kind: sys::GGML_TYPE_I32,
                        shape: [CHOSEN, tokens.len(), 1],
                        bytes: bytes.collect(),
                    };
                    let mut graph = Graph::new();
                    let (x, y) = (graph.leaf(&experts), graph.leaf(&columns));
                    let chosen = graph.leaf(&chosen);
                    // SAFETY: ggml.h: all are of the open context and of fitting shapes, and
                    // there is each expert that is chosen.
                    let output = unsafe { sys::ggml_mul_mat_id(graph.context, x, y, chosen) };
                    graph.compute(level, output, threads)
                };
                for tokens in WIDTHS {
                    let what = || format!("{}, type {kind}, {each} of {tokens}", level.name);
                    let together = product(0..tokens, 4);
                    assert_eq!(together.len(), tokens * CHOSEN * ROWS, "{}", what());
                    for (at, (got, (right, size))) in together.iter().zip(&right).enumerate() {
                        let error = (f64::from(*got) - right).abs() / size;
                        assert!(error < 0.002, "{} at {at}: {got}, not {right}", what());
                    }
                    if tokens <= PASS_TOKENS {
                        let alone: Vec<f32> =
                            (0..tokens).flat_map(|at| product(at..at + 1, 1)).collect();
                        assert_eq!(together, alone, "{}", what());
                    }
                }
            }
        }
    }
}

/// Tokens of a batch, of which a pass has the first.
const TOKENS: usize = 75;

/// Where a token attends to.
#[derive(Clone, Copy, Debug)]
struct Attention {
    /// Of keys and values.
    kind: sys::ggml_type,
    heads: usize,
    heads_of_keys: usize,
    width: usize,
    positions: usize,
    /// Before which a token sees nothing.
    window: usize,
    softcap: f32,
    sinks: bool,
}

#[test]
fn attention_is_right_and_does_not_depend_on_the_tokens_beside() {
    let usual = Attention {
        kind: F16,
        heads: 9,
        heads_of_keys: 3,
        width: 64,
        positions: 256,
        window: usize::MAX,
        softcap: 0.0,
        sinks: false,
    };
    let cases = [
        usual,
        Attention {
            heads: 4,
            heads_of_keys: 4,
            width: 96,
            positions: 1280,
            ..usual
        },
        Attention {
            kind: Q8_0,
            heads_of_keys: 1,
            positions: 768,
            ..usual
        },
        Attention {
            kind: Q8_0,
            heads: 4,
            heads_of_keys: 4,
            width: 96,
            sinks: true,
            ..usual
        },
        Attention {
            window: 100,
            positions: 768,
            ..usual
        },
        Attention {
            softcap: 3.0,
            ..usual
        },
        Attention {
            sinks: true,
            width: 80,
            ..usual
        },
    ];
    for case in cases {
        let inputs = Inputs::of(case);
        let right = inputs.attended();
        for level in tested() {
            let attend = |tokens: Range<usize>| {
                let got = inputs.attend(level, tokens.clone(), 1);
                assert_eq!(got, inputs.attend(level, tokens.clone(), 3), "{case:?}");
                let what = || format!("{}, {case:?}, tokens {tokens:?}", level.name);
                assert_eq!(got.len(), tokens.len() * inputs.row(), "{}", what());
                for (at, got) in got.iter().enumerate() {
                    // Some levels round queries, and sums, to sixteen bits.
                    let right = right[tokens.start * inputs.row() + at];
                    let error = (f64::from(*got) - right).abs();
                    assert!(error < 0.01, "{} at {at}: {got}, not {right}", what());
                }
                got
            };
            attend(0..TOKENS);
            let whole = attend(0..PASS_TOKENS);
            for width in 1..PASS_TOKENS {
                let firsts = (0..PASS_TOKENS).step_by(width);
                let together: Vec<f32> = firsts
                    .flat_map(|first| attend(first..PASS_TOKENS.min(first + width)))
                    .collect();
                let row = inputs.row();
                for (token, (a, b)) in whole.chunks(row).zip(together.chunks(row)).enumerate() {
                    assert_eq!(a, b, "{}, {case:?}, token {token} in {width}", level.name);
                }
            }
        }
    }
}

/// What the tokens of a pass attend with, and to.
struct Inputs {
    case: Attention,
    queries: Vec<Vec<f32>>,
    keys: Numbers,
    values: Numbers,
    sinks: Vec<f32>,
}

impl Inputs {
    fn of(case: Attention) -> Self {
        let mut rng = Rng::with_seed(2);
        let queries = (0..TOKENS)
            .map(|_| normal(&mut rng, case.heads * case.width))
            .collect();
        let mut cache = || {
            let shape = [case.width, case.heads_of_keys, case.positions];
            Numbers::new(case.kind, shape, &normal(&mut rng, shape.iter().product()))
        };
        Self {
            case,
            queries,
            keys: cache(),
            values: cache(),
            sinks: [0.0, 2.5, -1.0]
                .into_iter()
                .cycle()
                .take(case.heads)
                .collect(),
        }
    }

    /// Numbers that come out for one token.
    fn row(&self) -> usize {
        self.case.heads * self.case.width
    }

    fn scale(&self) -> f32 {
        1.0 / f32::from(u16::try_from(self.case.width).unwrap()).sqrt()
    }

    /// The positions that a token sees: the last all but three, the one before it
    /// one less, and so on.
    fn seen(&self, token: usize) -> Range<usize> {
        let end = self.case.positions - 3 - (TOKENS - 1 - token);
        end.saturating_sub(self.case.window)..end
    }

    /// What these tokens attend to, in a pass of their own, with `level`'s
    /// kernels and `threads` threads.
    fn attend(&self, level: &Level, tokens: Range<usize>, threads: i32) -> Vec<f32> {
        let Attention {
            heads,
            width,
            positions,
            ..
        } = self.case;
        // Heads outermost, as in a permuted view.
        let by_heads: Vec<f32> = (0..heads)
            .flat_map(|head| {
                self.queries[tokens.clone()]
                    .iter()
                    .map(move |query| (head, query))
            })
            .flat_map(|(head, query)| query[head * width..][..width].to_vec())
            .collect();
        let queries = Numbers::new(F32, [width, tokens.len(), heads], &by_heads);
        let masked: Vec<f32> = tokens
            .clone()
            .flat_map(|token| {
                let seen = self.seen(token);
                (0..positions).map(move |at| {
                    if seen.contains(&at) {
                        0.0
                    } else {
                        f32::NEG_INFINITY
                    }
                })
            })
            .collect();
        let mask = Numbers::new(F16, [positions, tokens.len(), 1], &masked);
        let sinks = Numbers::new(F32, [heads, 1, 1], &self.sinks);
        let mut graph = Graph::new();
        let (q, mask) = (graph.leaf(&queries), graph.leaf(&mask));
        let (k, v) = (graph.cache(&self.keys), graph.cache(&self.values));
        let sinks = self.case.sinks.then(|| graph.leaf(&sinks));
        // SAFETY: ggml.h: all are of the open context, and of fitting shapes.
        let output = unsafe {
            let (scale, softcap) = (self.scale(), self.case.softcap);
            let output =
                sys::ggml_flash_attn_ext(graph.context, q, k, v, mask, scale, 0.0, softcap);
            if let Some(sinks) = sinks {
                sys::ggml_flash_attn_ext_add_sinks(output, sinks);
            }
            output
        };
        graph.compute(level, output, threads)
    }

    /// The same in f64, for every token and head.
    fn attended(&self) -> Vec<f64> {
        let (keys, values) = (self.keys.rounded(), self.values.rounded());
        (0..TOKENS)
            .flat_map(|token| (0..self.case.heads).map(move |head| (token, head)))
            .flat_map(|(token, head)| self.attended_by(token, head, &keys, &values))
            .collect()
    }

    fn attended_by(&self, token: usize, head: usize, keys: &[f64], values: &[f64]) -> Vec<f64> {
        let case = self.case;
        let query = &self.queries[token][head * case.width..][..case.width];
        let of_keys = head / (case.heads / case.heads_of_keys);
        let at = |position: usize| (position * case.heads_of_keys + of_keys) * case.width;
        let score = |position| {
            let key = &keys[at(position)..][..case.width];
            let product: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * k).sum();
            let (score, cap) = (product * f64::from(self.scale()), f64::from(case.softcap));
            if cap == 0.0 {
                score
            } else {
                cap * (score / cap).tanh()
            }
        };
        let weights: Vec<(usize, f64)> = self
            .seen(token)
            .map(|position| (position, score(position).exp()))
            .collect();
        let given_away = if case.sinks {
            f64::from(self.sinks[head]).exp()
        } else {
            0.0
        };
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum::<f64>() + given_away;
        let mut right = vec![0.0; case.width];
        for (position, weight) in weights {
            for (sum, value) in right.iter_mut().zip(&values[at(position)..]) {
                *sum += weight / total * value;
            }
        }
        right
    }
}
