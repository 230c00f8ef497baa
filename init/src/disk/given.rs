//! The model where the user says it is: what the plain command loads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::content::{Content, classify};
use super::listing::{self, Links, ListedModel, Listing};
use super::{
    DiskError, Found, ModelFile, Origin, exact_bytes, file_name, parts, read_prefix, visible,
};

/// The model at a path: a file, a device that is a model, or a directory of
/// `*.gguf`. For the plain command; nothing is mounted.
///
/// # Errors
/// [`DiskError::Path`] and [`DiskError::NoModel`].
pub(crate) fn model_from_path(path: &Path) -> Result<Found, DiskError> {
    let wrong = |problem: String| DiskError::Path {
        path: path.into(),
        problem,
    };
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => wrong("does not exist; give the path of a .gguf file".into()),
        io::ErrorKind::PermissionDenied => {
            wrong("cannot be read by this user; change its permissions".into())
        }
        _ => wrong(format!("cannot be read: {error}")),
    };
    let metadata = path.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return models_in_directory(
            path,
            listing::list_models(path, Links::Anywhere).map_err(unreadable)?,
        );
    }
    if !metadata.is_file() && !metadata.file_type().is_block_device() {
        return Err(wrong(
            "is neither a file nor a disk; give a .gguf file".into(),
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    let content = classify(&read_prefix(&file).map_err(unreadable)?);
    let bytes = exact_bytes(&file).map_err(unreadable)?;
    match content {
        Content::Gguf => {
            let refused = |note| DiskError::NoModel { notes: vec![note] };
            Ok(Found {
                models: vec![given(ListedModel {
                    path: path.into(),
                    bytes,
                    rest: parts::rest_of(path).map_err(refused)?,
                })],
                ..Found::default()
            })
        }
        Content::FileSystem(kind) => Err(wrong(format!(
            "holds an {} file system; give the path of a .gguf file in it, mounted",
            kind.name()
        ))),
        _ => Err(DiskError::NoModel {
            notes: vec![content.refusal(&visible(&path.display()))],
        }),
    }
}

fn models_in_directory(path: &Path, listing: Listing) -> Result<Found, DiskError> {
    if listing.models.is_empty() {
        let mut notes = listing.notes;
        if notes.is_empty() {
            notes.push(format!(
                "{} holds no *.gguf file; give the path of one [ZE-21]",
                visible(&path.display())
            ));
        }
        return Err(DiskError::NoModel { notes });
    }
    let models = listing.models.into_iter();
    Ok(Found {
        models: models.map(given).collect(),
        notes: listing.notes,
        ..Found::default()
    })
}

fn given(model: ListedModel) -> ModelFile {
    let ListedModel { path, bytes, rest } = model;
    ModelFile {
        name: file_name(&path),
        path,
        bytes,
        rest,
        device: None,
        label: None,
        origin: Origin::Given,
    }
}
