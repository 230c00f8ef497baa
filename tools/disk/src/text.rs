//! The two texts on a disk: the parameters, which the guest reads, and the
//! manifest, which `list` and `verify` read.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

/// What may hold line feeds, as the one line that it should be.
pub(crate) fn one_line(text: &str) -> String {
    text.replace('\n', "␊")
}

/// The first line of the parameters.
pub(crate) const PARAMETERS_MAGIC: &str = "# zosia parameters";
/// The guest reads no more; what is not text is filled with zeros.
pub(crate) const PARAMETERS_BYTES: usize = 4096;

const MANIFEST_MAGIC: &str = "# zosia manifest";

/// The parameters that a disk carries, in the order in which they were set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads what is on a disk.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = up_to_zero(bytes)?;
        let mut lines = text.lines();
        if lines.next() != Some(PARAMETERS_MAGIC) {
            bail!("the parameters do not begin with \"{PARAMETERS_MAGIC}\"");
        }
        let mut parameters = Self::default();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            parameters.set(line)?;
        }
        Ok(parameters)
    }

    /// Sets one parameter, or removes it if its value is empty.
    pub(crate) fn set(&mut self, assignment: &str) -> Result<()> {
        let (name, value) = assignment
            .split_once('=')
            .filter(|(name, _)| is_name(name))
            .with_context(|| {
                format!("\"{assignment}\" is not a parameter: write zosia.NAME=VALUE")
            })?;
        if value.chars().any(char::is_control) {
            bail!("the value of {name} holds a control character; one line of text is wanted");
        }
        self.0.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    /// What goes to the disk, without the zeros that follow.
    pub(crate) fn to_text(&self) -> Result<String> {
        let mut text = format!("{PARAMETERS_MAGIC}\n");
        for (name, value) in &self.0 {
            let _ = writeln!(text, "{name}={value}"); // A string takes everything.
        }
        if text.len() > PARAMETERS_BYTES {
            bail!(
                "the parameters take {} bytes; a disk holds {PARAMETERS_BYTES}",
                text.len()
            );
        }
        Ok(text)
    }
}

/// Whether `name` is `zosia.` and a name of lower-case letters, digits and `_`.
fn is_name(name: &str) -> bool {
    name.strip_prefix("zosia.").is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.')
    })
}

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// `efi`, `raw`, `erofs` or `ext4`.
    pub(crate) kind: String,
    /// SHA-256 of the file.
    pub(crate) sha256: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// SHA-256 of what the partition holds; the file's own if that is the file.
    pub(crate) content_sha256: String,
    /// Its length; the rest of the partition is zeros.
    pub(crate) content_bytes: u64,
    /// The partition's label.
    pub(crate) label: String,
    /// The file's name.
    pub(crate) file_name: String,
}

impl Record {
    /// The record of a file that is stored as it is.
    pub(crate) fn plain(
        kind: &str,
        sha256: &[u8; 32],
        bytes: u64,
        label: &str,
        name: &str,
    ) -> Self {
        Self {
            kind: kind.to_owned(),
            sha256: hex::encode(sha256),
            bytes,
            content_sha256: hex::encode(sha256),
            content_bytes: bytes,
            label: label.to_owned(),
            file_name: name.to_owned(),
        }
    }
}

/// The manifest: a heading, then a line for each record, its fields apart by tabs.
pub(crate) fn manifest_text(records: &[Record]) -> String {
    let mut text = format!("{MANIFEST_MAGIC}\n");
    for record in records {
        // A string takes everything.
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            record.kind,
            record.sha256,
            record.bytes,
            record.content_sha256,
            record.content_bytes,
            record.label,
            record.file_name
        );
    }
    text
}

/// Reads a manifest back.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<Vec<Record>> {
    let text = up_to_zero(bytes)?;
    let mut lines = text.lines();
    if lines.next() != Some(MANIFEST_MAGIC) {
        bail!("the manifest does not begin with \"{MANIFEST_MAGIC}\"");
    }
    lines.map(parse_record).collect()
}

fn parse_record(line: &str) -> Result<Record> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [
        kind,
        sha256,
        bytes,
        content_sha256,
        content_bytes,
        label,
        file_name,
    ] = fields[..]
    else {
        bail!("a line of the manifest has {} fields, not 7", fields.len());
    };
    Ok(Record {
        kind: kind.to_owned(),
        sha256: sha256.to_owned(),
        bytes: bytes.parse().context("a length in the manifest")?,
        content_sha256: content_sha256.to_owned(),
        content_bytes: content_bytes.parse().context("a length in the manifest")?,
        label: label.to_owned(),
        file_name: file_name.to_owned(),
    })
}

fn up_to_zero(bytes: &[u8]) -> Result<&str> {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).context("a text on the disk is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_the_disk() {
        let mut parameters = Parameters::default();
        for line in [
            "zosia.temp=0",
            "zosia.system=Be brief = good.",
            "zosia.temp=0.5",
        ] {
            parameters.set(line).unwrap();
        }
        let mut bytes = parameters.to_text().unwrap().into_bytes();
        assert_eq!(
            bytes,
            b"# zosia parameters\nzosia.system=Be brief = good.\nzosia.temp=0.5\n"
        );
        bytes.resize(PARAMETERS_BYTES, 0);
        assert_eq!(Parameters::parse(&bytes).unwrap(), parameters);
        parameters.set("zosia.temp=").unwrap();
        parameters.set("zosia.system=").unwrap();
        assert_eq!(parameters, Parameters::default());
    }

    #[test]
    fn refuses_what_is_no_parameter() {
        let mut parameters = Parameters::default();
        for bad in [
            "temp=0",
            "zosia.=1",
            "zosia.temp",
            "zosia.a b=1",
            "zosia.a=1\nzosia.b=2",
        ] {
            assert!(parameters.set(bad).is_err(), "{bad}");
        }
        parameters
            .set(&format!("zosia.system={}", "x".repeat(4096)))
            .unwrap();
        let error = parameters.to_text().unwrap_err().to_string();
        assert!(error.contains("a disk holds 4096"), "{error}");
        assert!(Parameters::parse(b"zosia.temp=0\n").is_err());
    }

    #[test]
    fn the_manifest_survives_the_disk() {
        let records = [
            Record::plain("efi", &[1; 32], 10, "EFI", "zosia.efi"),
            Record {
                content_bytes: 4096,
                ..Record::plain("erofs", &[2; 32], u64::MAX, "label", "a name.gguf")
            },
        ];
        let text = manifest_text(&records);
        assert_eq!(parse_manifest(text.as_bytes()).unwrap(), records);
        assert!(parse_manifest(b"# zosia manifest\nraw\t1\n").is_err());
        assert!(parse_manifest(b"").is_err());
    }
}
