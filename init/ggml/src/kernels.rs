//! What the levels' kernels compute, beside the same in f64.

#![expect(
    unsafe_code,
    reason = "ggml's graphs, of the one operation that is tested"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "what makes one call sound makes its neighbours so"
)]

use std::ptr;

use fastrand::Rng;
use llama_cpp_sys_2 as sys;

use super::{Level, PASS_TOKENS, levels};

/// Widths of passes, and of batches: those around what kernels take at once.
const WIDTHS: [usize; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 23, 128, 141];

fn here() -> impl Iterator<Item = &'static Level> {
    levels::LEVELS
        .iter()
        .filter(|level| (level.missing)().is_none())
}

/// Numbers of a normal distribution, or near enough.
fn normal(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count)
        .map(|_| (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0)
        .collect()
}

/// A graph's tensors, and what the leaves hold.
struct Graph {
    context: *mut sys::ggml_context,
    leaves: Vec<(*mut sys::ggml_tensor, Vec<u8>)>,
}

impl Graph {
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

    /// A leaf of `shape`, innermost first, that holds `data`, rounded to `kind`.
    fn leaf(
        &mut self,
        kind: sys::ggml_type,
        shape: [usize; 3],
        data: &[f32],
    ) -> *mut sys::ggml_tensor {
        let [width, height, depth] = shape.map(|size| i64::try_from(size).unwrap());
        assert_eq!(data.len(), shape.iter().product::<usize>());
        // SAFETY: ggml.h: the context is open and has room for 16 tensors.
        let (tensor, row) = unsafe {
            let tensor = sys::ggml_new_tensor_3d(self.context, kind, width, height, depth);
            (tensor, sys::ggml_row_size(kind, width))
        };
        let rows = height * depth;
        let mut bytes = vec![0_u8; row * usize::try_from(rows).unwrap()];
        // SAFETY: ggml.h: `rows` rows of `width` floats are read, and as many of
        // `row` bytes written, which is what `data` and `bytes` hold.
        unsafe {
            let to = bytes.as_mut_ptr().cast();
            sys::ggml_quantize_chunk(kind, data.as_ptr(), to, 0, rows, width, ptr::null());
        }
        self.leaves.push((tensor, bytes));
        tensor
    }

    /// What the last leaf holds, as numbers.
    fn rounded(&self, kind: sys::ggml_type) -> Vec<f64> {
        let (tensor, bytes) = self.leaves.last().unwrap();
        // SAFETY: ggml.h: a tensor of the open context; the traits are static. The
        // conversion reads as many elements as the leaf's bytes hold.
        let floats = unsafe {
            let count = sys::ggml_nelements(*tensor);
            let mut floats = vec![0_f32; usize::try_from(count).unwrap()];
            match (*sys::ggml_get_type_traits(kind)).to_float {
                Some(to_float) => to_float(bytes.as_ptr().cast(), floats.as_mut_ptr(), count),
                None => floats
                    .iter_mut()
                    .zip(bytes.as_chunks().0)
                    .for_each(|(float, bytes)| *float = f32::from_ne_bytes(*bytes)),
            }
            floats
        };
        floats.into_iter().map(f64::from).collect()
    }

    /// Computes `output` with `level`'s kernels.
    fn compute(&self, level: &Level, output: *mut sys::ggml_tensor) -> Vec<f32> {
        // SAFETY: ggml-backend.h: the registry entry is static, of a level that this
        // processor runs; the backend and the buffer live until the end of the
        // block, each leaf gets as many bytes as its tensor has, and the output is
        // contiguous and f32.
        unsafe {
            let device = sys::ggml_backend_reg_dev_get((level.register)(), 0);
            let backend = sys::ggml_backend_dev_init(device, ptr::null());
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

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: ggml.h: the context is open, and nothing uses it afterwards.
        unsafe { sys::ggml_free(self.context) };
    }
}

#[test]
fn products_are_right_and_do_not_depend_on_the_columns_beside() {
    // Not multiples of what kernels take at once, but of the largest block.
    const ROWS: usize = 75;
    const LENGTH: usize = 3 * 256;
    let kinds = [
        sys::GGML_TYPE_Q4_0,
        sys::GGML_TYPE_Q4_1,
        sys::GGML_TYPE_Q8_0,
        sys::GGML_TYPE_Q4_K,
        sys::GGML_TYPE_Q5_K,
        sys::GGML_TYPE_Q6_K,
    ];
    let mut rng = Rng::with_seed(1);
    let weights = normal(&mut rng, ROWS * LENGTH);
    let columns = normal(&mut rng, WIDTHS.iter().max().unwrap() * LENGTH);
    let norm = |numbers: &[f64]| numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
    let wide: Vec<f64> = columns.iter().copied().map(f64::from).collect();
    for (level, kind) in here().flat_map(|level| kinds.map(|kind| (level, kind))) {
        let mut alone: Vec<Vec<f32>> = Vec::new();
        let product = |columns: &[f32]| {
            let mut graph = Graph::new();
            let width = columns.len() / LENGTH;
            let x = graph.leaf(kind, [LENGTH, ROWS, 1], &weights);
            let rounded = graph.rounded(kind);
            let y = graph.leaf(sys::GGML_TYPE_F32, [LENGTH, width, 1], columns);
            // SAFETY: ggml.h: both are of the open context and of one length.
            let output = unsafe { sys::ggml_mul_mat(graph.context, x, y) };
            (graph.compute(level, output), rounded)
        };
        for column in columns.chunks(LENGTH).take(PASS_TOKENS) {
            alone.push(product(column).0);
        }
        for width in WIDTHS {
            let what = || format!("{}, type {kind}, {width} columns", level.name);
            let (together, rounded) = product(&columns[..width * LENGTH]);
            assert_eq!(together.len(), width * ROWS, "{}", what());
            for (at, got) in together.iter().enumerate() {
                let x = &rounded[at % ROWS * LENGTH..][..LENGTH];
                let y = &wide[at / ROWS * LENGTH..][..LENGTH];
                let right: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                // Activations are rounded to eight bits.
                let error = (f64::from(*got) - right).abs() / (norm(x) * norm(y));
                assert!(error < 0.002, "{} at {at}: {got}, not {right}", what());
            }
            if width <= PASS_TOKENS {
                assert_eq!(together, alone[..width].concat(), "{}", what());
            }
        }
    }
}

/// Where a token attends to.
#[derive(Clone, Copy, Debug)]
struct Attention {
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
            positions: 1024,
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
    for (level, case) in here().flat_map(|level| cases.map(|case| (level, case))) {
        let whole = attend(level, case, 0, PASS_TOKENS);
        for width in 1..PASS_TOKENS {
            let row = case.heads * case.width;
            let mut together = Vec::new();
            for first in (0..PASS_TOKENS).step_by(width) {
                together.extend(attend(level, case, first, width.min(PASS_TOKENS - first)));
            }
            for (token, (a, b)) in whole.chunks(row).zip(together.chunks(row)).enumerate() {
                assert_eq!(a, b, "{}, {case:?}, token {token} in {width}", level.name);
            }
        }
    }
}

/// What `width` tokens, those after the `first`, attend to: the last of all
/// tokens of the pass sees all positions but three, the one before it one less,
/// and so on. Compared with the same in f64.
fn attend(level: &Level, case: Attention, first: usize, width: usize) -> Vec<f32> {
    const F16: sys::ggml_type = sys::GGML_TYPE_F16;
    const F32: sys::ggml_type = sys::GGML_TYPE_F32;
    let Attention {
        heads, positions, ..
    } = case;
    let mut rng = Rng::with_seed(2);
    let queries: Vec<Vec<f32>> = (0..PASS_TOKENS)
        .map(|_| normal(&mut rng, heads * case.width))
        .collect();
    let mut cache = || normal(&mut rng, positions * case.heads_of_keys * case.width);
    let (keys, values) = (cache(), cache());
    let sink: Vec<f32> = [0.0, 2.5, -1.0].into_iter().cycle().take(heads).collect();
    let seen = |token: usize| {
        let end = positions - 3 - (PASS_TOKENS - 1 - token);
        end.saturating_sub(case.window)..end
    };
    let tokens = first..first + width;

    let mut graph = Graph::new();
    // Heads outermost, as in a permuted view.
    let by_heads: Vec<f32> = (0..heads)
        .flat_map(|head| {
            queries[tokens.clone()]
                .iter()
                .map(move |query| (head, query))
        })
        .flat_map(|(head, query)| query[head * case.width..][..case.width].to_vec())
        .collect();
    let q = graph.leaf(F32, [case.width, width, heads], &by_heads);
    let shape = [case.width, positions, case.heads_of_keys];
    let k = graph.leaf(F16, shape, &keys);
    let of_keys = graph.rounded(F16);
    let v = graph.leaf(F16, shape, &values);
    let of_values = graph.rounded(F16);
    let masked: Vec<f32> = tokens
        .clone()
        .flat_map(|token| {
            (0..positions).map(move |at| {
                if seen(token).contains(&at) {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
        .collect();
    let mask = graph.leaf(F16, [positions, width, 1], &masked);
    let scale = 1.0 / f32::from(u16::try_from(case.width).unwrap()).sqrt();
    let sinks = case.sinks.then(|| graph.leaf(F32, [heads, 1, 1], &sink));
    // SAFETY: ggml.h: all are of the open context, and of fitting shapes.
    let output = unsafe {
        let output =
            sys::ggml_flash_attn_ext(graph.context, q, k, v, mask, scale, 0.0, case.softcap);
        if let Some(sinks) = sinks {
            sys::ggml_flash_attn_ext_add_sinks(output, sinks);
        }
        output
    };
    let got = graph.compute(level, output);
    assert_eq!(got.len(), width * heads * case.width);

    for (at, got) in got.chunks(case.width).enumerate() {
        let (token, head) = (first + at / heads, at % heads);
        let query = &queries[token][head * case.width..][..case.width];
        let of_head = head / (heads / case.heads_of_keys) * positions;
        let row = |rows: &[f64], position: usize| {
            rows[(of_head + position) * case.width..][..case.width].to_vec()
        };
        let score = |position| {
            let key = row(&of_keys, position);
            let product: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * k).sum();
            let (score, cap) = (product * f64::from(scale), f64::from(case.softcap));
            if cap == 0.0 {
                score
            } else {
                cap * (score / cap).tanh()
            }
        };
        let weights: Vec<(usize, f64)> = seen(token).map(|at| (at, score(at).exp())).collect();
        let given_away = if case.sinks {
            f64::from(sink[head]).exp()
        } else {
            0.0
        };
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum::<f64>() + given_away;
        let mut right = vec![0.0; case.width];
        for (position, weight) in weights {
            for (sum, value) in right.iter_mut().zip(row(&of_values, position)) {
                *sum += weight / total * value;
            }
        }
        for (got, right) in got.iter().zip(&right) {
            // Some levels round queries, and sums, to sixteen bits.
            let error = (f64::from(*got) - right).abs();
            assert!(
                error < 0.01,
                "{}, {case:?}, token {token}, head {head}: {got}, not {right}",
                level.name
            );
        }
    }
    got
}
