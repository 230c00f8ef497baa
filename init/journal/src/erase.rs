//! Deleting a conversation so that nothing of it stays on the disk.

use crate::chats::ChatId;
use crate::error::{Action, Error};
use crate::frame::PAYLOAD_AT;
use crate::journal::Journal;
use crate::record::Record;
use crate::walk::RECORD_BYTES_MAX;

impl Journal {
    /// Deletes a conversation. What only it has is overwritten with zeros: messages,
    /// lines typed in it, evaluated contexts. What a fork has of it stays with the fork.
    ///
    /// # Errors
    /// There is no such conversation, or the disk cannot be written to. Where it is
    /// deleted but not all is overwritten, another call does the rest, or the next
    /// opening.
    pub fn delete(&mut self, chat: ChatId) -> Result<(), Error> {
        if self.chat(chat).is_some() {
            let erased = self.contents.only_of(chat);
            self.append(Record::Delete { chat, erased })?;
        } else if self.contents.erasing.is_none() {
            return Err(Error::NoChat);
        }
        self.finish_erasing()
    }

    /// Overwrites what deletions are to erase, and says so.
    pub(crate) fn finish_erasing(&mut self) -> Result<(), Error> {
        for number in self.contents.erasing.clone().unwrap_or_default() {
            // One whose header is damaged is lost; what it says is not found.
            if let Some((at, header)) = self.header(number)? {
                self.wipe(at.saturating_add(PAYLOAD_AT), header.end(at))?;
            }
        }
        // Free space holds what was dropped before, and pieces that were not finished.
        for extent in self.free_space() {
            self.wipe(extent.at(), extent.at().saturating_add(extent.bytes()))?;
        }
        // Behind the records is what is left of one that power was lost in, in any order.
        let size = self.disk.size();
        let size = size.map_err(|e| Error::of(Action::Read, 0, e))?;
        let end = self.head.end.saturating_add(RECORD_BYTES_MAX).min(size);
        self.wipe(self.head.end, end)?;
        self.flush()?;
        self.append(Record::Erased {})
    }
}
