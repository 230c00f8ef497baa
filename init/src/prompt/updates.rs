//! What the session tells, on the screen.

use protocol::memory::mib;
use protocol::{Progress, Stage};

use super::{Chat, show};
use crate::session::{Phase, Reason, Update};

impl Chat {
    /// Shows what has happened; `false`: nothing has.
    pub(super) fn take_updates(&mut self) -> bool {
        let mut any = false;
        while self.screen.has_room()
            && let Some(update) = self.session.try_next()
        {
            self.on_update(update);
            self.do_sent_early();
            any = true;
        }
        any
    }

    fn on_update(&mut self, update: Update) {
        match update {
            Update::Progress(progress) => self.screen.set_status(Some(progress_text(&progress))),
            Update::Ready => {
                // This engine has evaluated nothing yet.
                self.drafts.forget();
                self.name_contexts();
                self.timeline.mark("ready");
                self.screen.set_status(None);
                if let Some(info) = self.session.info() {
                    self.screen.quiet(&show::model_line(info));
                }
                if let Err(error) = self.session.grammar(&self.session.config().chat) {
                    self.screen.complain(&error);
                }
            }
            Update::Refused { error, question } => {
                self.screen.end_answer();
                self.screen.complain(&error);
                self.line_again(question);
            }
            // Dimmed: in the middle of an answer it is not to be taken for the model's words.
            Update::Notice(line) => self.screen.quiet(&line),
            Update::Prefill(done, total) => {
                if self.screen.is_answering() && !self.screen.has_answer_begun() && total > 64 {
                    let percent = show::percent(done.into(), total.into());
                    let status = format!("evaluating {total} tokens {percent:3} %");
                    self.screen.set_status(Some(status));
                }
            }
            Update::Text(kind, text) => {
                self.timeline.mark("first token");
                self.room.settle();
                self.screen.push(kind, &text);
            }
            Update::Done(stats) => {
                self.screen.end_answer();
                if self
                    .session
                    .messages()
                    .last()
                    .is_some_and(|m| m.text.is_empty())
                {
                    self.screen
                        .tell("the model only thought; /think shows it, /regen asks again");
                }
                self.end_turn(stats);
                self.screen.open();
            }
            Update::BrokenOff => {
                self.screen.end_answer();
                self.keep(None);
                self.screen.open();
            }
            Update::TakenBack { reason, question } => self.on_taken_back(reason, question),
            Update::Rendered { text, tokens } => {
                show::rendered(&mut self.screen, &self.session, &text, &tokens);
            }
            Update::Measured(_) | Update::Answered { .. } => {}
            Update::Evaluated(evaluated) => self.on_evaluated(evaluated),
            Update::Counted(counts) => show::counted(&mut self.screen, &self.session, &counts),
            Update::Sized(size) => self.on_sized(&size),
            Update::NotRendered(error) => {
                if self.session.phase() != Phase::Ready {
                    self.reading.is_not_sized();
                }
                self.screen.complain(&error);
            }
        }
    }

    fn on_taken_back(&mut self, reason: Reason, question: Option<String>) {
        self.screen.end_answer();
        self.keep(None);
        match (reason, question) {
            (Reason::TooLong(error), Some(question)) => self.make_room(&error, question),
            (reason, question) => {
                match reason {
                    Reason::Cancelled => self.screen.quiet("stopped before the answer began"),
                    Reason::NoEngine(error) | Reason::Failed(error) | Reason::TooLong(error) => {
                        self.screen.complain(&error);
                    }
                }
                if question.is_none() {
                    self.screen.quiet("the answer before stays");
                }
                self.line_again(question);
            }
        }
    }

    /// The line is the user's again, with what was not answered in it.
    fn line_again(&mut self, question: Option<String>) {
        self.room.settle();
        match question {
            Some(text) => self.give_back(&text),
            None => self.screen.open(),
        }
    }
}

fn progress_text(p: &Progress) -> String {
    let verb = match p.stage {
        Stage::Reading => "reading the model",
        Stage::Preparing => "loading the model",
    };
    let percent = show::percent(p.done_bytes, p.total_bytes);
    if p.bytes_per_s == 0 {
        return format!("{verb} {percent:3} %");
    }
    let (done, total) = (mib(p.done_bytes), mib(p.total_bytes));
    let rate = p.bytes_per_s / 1_000_000;
    format!("{verb} {percent:3} %  {done} of {total} MiB  {rate} MB/s")
}
