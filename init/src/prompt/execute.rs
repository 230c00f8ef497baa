//! What the commands do.

use protocol::{Param, When};

use super::commands::{self, Command};
use super::errands::Next;
use super::{Chat, save, show};

/// Carries out a command.
pub(super) fn execute(chat: &mut Chat, command: Command) {
    if !matches!(command, Command::Delete(_)) {
        chat.spare_doomed();
    }
    match command {
        Command::Help => chat.screen.tell(&commands::help()),
        Command::Exit => chat.leaving = true,
        Command::Clear => {
            chat.session.clear();
            chat.screen.quiet(match chat.keeping {
                None => "the conversation is forgotten",
                Some(_) => "the conversation is forgotten; /delete erases it from the disk",
            });
            chat.send_held();
        }
        Command::Regen if chat.room.is_wanted() => chat.send_held(),
        Command::Regen if chat.models.is_settled() => chat.regenerate(),
        Command::Regen => chat.look_and(Next::Regen),
        Command::Undo => match chat.session.undo() {
            Some(text) => {
                let line = format!("taken back: {}", show::first_line(&text));
                chat.screen.quiet(&line);
                chat.take_apart(&text);
                chat.send_held();
            }
            None => chat.screen.complain("there is no message to take back"),
        },
        Command::Drop => {
            if chat.forget_oldest() {
                chat.room.drop_until_it_fits();
                chat.send_held();
            } else {
                chat.screen.complain("there is no message to forget");
            }
        }
        Command::Edit => match chat.room.take().or_else(|| chat.session.undo()) {
            Some(text) => {
                let line = chat.take_apart(&text);
                chat.screen.set_text(&line);
            }
            None => chat.screen.complain("there is no message to edit"),
        },
        Command::System(text) => system(chat, text.as_deref()),
        Command::Set(param, value) => set(chat, param, &value),
        Command::Show(param) => show::parameters(&mut chat.screen, chat.session.config(), param),
        Command::Stats => show::stats(&mut chat.screen, &chat.session),
        Command::Context if chat.session.messages().is_empty() => {
            chat.screen.tell("the context is empty");
        }
        Command::Context => {
            if !chat.session.count() {
                chat.screen.complain("the model is not ready");
            }
        }
        Command::Model(name) => chat.look_and(Next::Model(name)),
        Command::Read(names) => chat.read(names),
        Command::Template => {
            if !chat.session.render() {
                chat.screen.complain("the model is not ready");
            }
        }
        Command::New => chat.begin_another(),
        Command::Chats => chat.list_chats(),
        Command::Chat(number) => chat.go_to(number),
        Command::Fork(turns) => chat.fork(turns),
        Command::Rename(title) => chat.rename(&title),
        Command::Delete(number) => chat.delete(number),
        Command::Think => show::thought(&mut chat.screen, &chat.session),
        Command::Save(name) => {
            let messages = chat.session.transcript();
            match save::save(chat.host, &mut chat.saves, &name, &messages) {
                Ok(place) => chat.screen.quiet(&format!("saved as {place}")),
                Err(e) => chat.screen.complain(&format!("not saved: {e} [ZE-60]")),
            }
        }
        Command::Time => show::time(&mut chat.screen, &chat.session, &chat.timeline),
    }
}

fn system(chat: &mut Chat, text: Option<&str>) {
    let mut params = chat.session.config().chat.clone();
    match text {
        None if params.system.is_empty() => return chat.screen.tell("there is no system prompt"),
        None => return chat.screen.tell(&params.system),
        Some("none") => {
            params.system.clear();
            chat.screen.quiet("the system prompt is removed");
        }
        Some(text) => {
            text.clone_into(&mut params.system);
            chat.screen.quiet("the system prompt is set");
        }
    }
    chat.session.set_chat(params);
}

fn set(chat: &mut Chat, param: &'static Param, value: &str) {
    let change = match chat.session.config().with(param, value) {
        Ok(change) => change,
        Err(expected) => {
            let error = format!("{} {value}: {expected}", param.name);
            return chat.screen.complain(&error);
        }
    };
    if matches!(param.name, "grammar" | "format")
        && let Err(error) = chat.session.grammar(&change.config.chat)
    {
        return chat.screen.complain(&error);
    }
    let value = (param.get)(&change.config);
    chat.screen.quiet(&format!("{} is {value}", param.name));
    if param.when == When::Screen {
        chat.screen.set_up(&change.config.screen);
    }
    chat.session.apply(change);
    if param.name == "ctx" {
        chat.send_held();
    }
}
