//! `zosia.mode=diag`: what was found and how it would run.

use std::fs;

use protocol::Config;
use protocol::memory::mib;

use crate::attached::Text;
use crate::disk::{self, ModelFile};
use crate::host;
use crate::models::Models;

/// What was found and how it would run.
pub(crate) fn diagnosis(config: &Config, models: &Models) -> String {
    let uname = rustix::system::uname();
    let mut lines = vec![
        format!("zosia {}", env!("CARGO_PKG_VERSION")),
        format!(
            "kernel: {} {}",
            uname.release().to_string_lossy(),
            uname.machine().to_string_lossy()
        ),
        format!("processors: {}", processors()),
        format!(
            "processor level: {}",
            ggml::level_name(config.engine.cpu.as_deref())
        ),
    ];
    if let Some(features) = cpu_features() {
        lines.push(format!("processor features: {features}"));
    }
    lines.push(format!("memory: {}", host::memory()));
    lines.extend(models.all().iter().map(|m| model_line(config, m)));
    let text = |text: &Text| format!("text: {}: {} bytes", text.name, text.bytes);
    lines.extend(models.texts().iter().map(text));
    lines.extend(models.notes().iter().map(|note| format!("note: {note}")));
    if models.all().is_empty() && models.notes().is_empty() {
        let why = models.choose(None).err().map(|e| e.to_string());
        lines.push(why.unwrap_or_else(|| "model: none".to_owned()));
    }
    lines.join("\n") + "\n"
}

fn model_line(config: &Config, model: &ModelFile) -> String {
    let place = match &model.device {
        Some(device) => format!("{} on {device}", model.name),
        None => model.path.display().to_string(),
    };
    match disk::header_of(model) {
        Ok(header) => format!(
            "model: {place}: {}, {} million weights, {} MiB, trained for {} tokens of context, \
             {} KiB of KV cache a token, {}",
            header.arch,
            header.weights / 1_000_000,
            mib(model.all_bytes()),
            header.context_length.unwrap_or(0),
            header
                .kv_bytes_per_token(header.kv_type(config.engine.kv))
                .0
                .div_ceil(1024),
            engine::template_fault(&header).map_or_else(
                || "chat template of its own".to_owned(),
                |fault| format!("no usable chat template: {fault}")
            )
        ),
        Err(error) => format!("model: {place}: {error}"),
    }
}

fn processors() -> String {
    std::thread::available_parallelism().map_or("unknown".to_owned(), |n| n.to_string())
}

fn cpu_features() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo
        .lines()
        .find(|l| l.starts_with("Features") || l.starts_with("flags"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
