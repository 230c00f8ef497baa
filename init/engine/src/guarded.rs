//! llama.cpp's functions that can throw, behind `guarded.cpp`, which catches: an
//! exception that reached Rust would end the process.

#![expect(unsafe_code, reason = "llama.cpp's handles are C pointers")]

use std::ffi::{CStr, c_char};

use llama_cpp_sys_2 as sys;

use super::backend::tells_of_memory;

/// What llama.cpp threw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", explain(.0))]
pub(crate) struct Thrown(String);

/// As `guarded.cpp` has it: a C string.
#[repr(C)]
struct What([c_char; 256]);

unsafe extern "C" {
    fn zosia_tokenize(
        vocab: *const sys::llama_vocab,
        text: *const c_char,
        bytes: i32,
        parse_special: bool,
        tokens: *mut sys::llama_token,
        room: i32,
        count: *mut i32,
        what: *mut What,
    ) -> bool;
    fn zosia_piece(
        vocab: *const sys::llama_vocab,
        token: sys::llama_token,
        show_control: bool,
        piece: *mut c_char,
        room: i32,
        bytes: *mut i32,
        what: *mut What,
    ) -> bool;
    fn zosia_decode(
        context: *mut sys::llama_context,
        batch: sys::llama_batch,
        code: *mut i32,
        what: *mut What,
    ) -> bool;
    fn zosia_grammar(
        vocab: *const sys::llama_vocab,
        source: *const c_char,
        root: *const c_char,
        sampler: *mut *mut sys::llama_sampler,
        what: *mut What,
    ) -> bool;
    fn zosia_apply(
        sampler: *mut sys::llama_sampler,
        candidates: *mut sys::llama_token_data_array,
        what: *mut What,
    ) -> bool;
    fn zosia_accept(
        sampler: *mut sys::llama_sampler,
        token: sys::llama_token,
        what: *mut What,
    ) -> bool;
}

/// `llama_tokenize`, without markup of its own: the number of tokens written, or
/// minus that of the tokens that there would have been.
///
/// # Safety
/// `vocab` is live.
pub(crate) unsafe fn tokenize(
    vocab: *const sys::llama_vocab,
    text: &str,
    parse_special: bool,
    tokens: &mut [sys::llama_token],
) -> Result<i32, Thrown> {
    let Ok(bytes) = i32::try_from(text.len()) else {
        return Err(Thrown("the text is longer than 2 GiB".to_owned()));
    };
    let room = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
    let mut count = 0;
    catch(|what| {
        // SAFETY: llama.h: `text` has `bytes` bytes, and no more than `room` tokens
        // are written to `tokens`; the caller answers for `vocab`.
        unsafe {
            zosia_tokenize(
                vocab,
                text.as_ptr().cast(),
                bytes,
                parse_special,
                tokens.as_mut_ptr(),
                room,
                &raw mut count,
                what,
            )
        }
    })?;
    Ok(count)
}

/// `llama_token_to_piece`: the number of bytes written, or minus that of the bytes
/// that there would have been.
///
/// # Safety
/// `vocab` is live, and `token` one of its tokens.
pub(crate) unsafe fn piece(
    vocab: *const sys::llama_vocab,
    token: sys::llama_token,
    show_control: bool,
    piece: &mut [u8],
) -> Result<i32, Thrown> {
    let room = i32::try_from(piece.len()).unwrap_or(i32::MAX);
    let mut bytes = 0;
    catch(|what| {
        // SAFETY: llama.h: no more than `room` bytes are written to `piece`; the
        // caller answers for the rest.
        unsafe {
            zosia_piece(
                vocab,
                token,
                show_control,
                piece.as_mut_ptr().cast(),
                room,
                &raw mut bytes,
                what,
            )
        }
    })?;
    Ok(bytes)
}

/// `llama_decode`: its code.
///
/// # Safety
/// As llama.h asks: a live context, and a batch whose arrays are as long as it says.
pub(crate) unsafe fn decode(
    context: *mut sys::llama_context,
    batch: sys::llama_batch,
) -> Result<i32, Thrown> {
    let mut code = 0;
    catch(|what| {
        // SAFETY: the caller's.
        unsafe { zosia_decode(context, batch, &raw mut code, what) }
    })?;
    Ok(code)
}

/// `llama_sampler_init_grammar`: null for a grammar that is none.
///
/// # Safety
/// `vocab` is live and outlives the sampler.
pub(crate) unsafe fn grammar(
    vocab: *const sys::llama_vocab,
    source: &CStr,
    root: &CStr,
) -> Result<*mut sys::llama_sampler, Thrown> {
    let mut sampler = std::ptr::null_mut();
    catch(|what| {
        // SAFETY: llama.h: C strings that are read during the call; the caller
        // answers for `vocab`.
        unsafe {
            zosia_grammar(
                vocab,
                source.as_ptr(),
                root.as_ptr(),
                &raw mut sampler,
                what,
            )
        }
    })?;
    Ok(sampler)
}

/// `llama_sampler_apply`.
///
/// # Safety
/// `sampler` is live, and nothing else uses what `candidates` describe.
pub(crate) unsafe fn apply(
    sampler: *mut sys::llama_sampler,
    candidates: &mut sys::llama_token_data_array,
) -> Result<(), Thrown> {
    catch(|what| {
        // SAFETY: the caller's.
        unsafe { zosia_apply(sampler, &raw mut *candidates, what) }
    })
}

/// `llama_sampler_accept`.
///
/// # Safety
/// `sampler` is live.
pub(crate) unsafe fn accept(
    sampler: *mut sys::llama_sampler,
    token: sys::llama_token,
) -> Result<(), Thrown> {
    catch(|what| {
        // SAFETY: the caller's.
        unsafe { zosia_accept(sampler, token, what) }
    })
}

/// `call` returns whether nothing was thrown, and fills in what was.
fn catch(call: impl FnOnce(*mut What) -> bool) -> Result<(), Thrown> {
    let mut what = What([0; 256]);
    if call(&raw mut what) {
        return Ok(());
    }
    let bytes = what.0.iter().map(|byte| byte.to_ne_bytes()[0]);
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    Err(Thrown(String::from_utf8_lossy(&bytes).into_owned()))
}

fn explain(what: &str) -> String {
    if tells_of_memory(what) {
        return "memory ran out; more memory (run.sh --mem), a smaller zosia.ctx or \
                zosia.kv=q8_0 helps"
            .to_owned();
    }
    format!("llama.cpp: {what}")
}
