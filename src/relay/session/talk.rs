//! The chat of a session.

use super::{Session, State};
use crate::relay::chat::{Line, Said, Sender, Snapshot};
use crate::relay::event::Event;
use crate::relay::nodes::wire::Word;
use crate::relay::refused::Refused;

impl Session {
    /// Takes what somebody here writes, and tells everybody; returns the line.
    pub fn say(&self, said: &Said, sender: Sender<'_>, host: bool, now: i64) -> Result<Line, Refused> {
        let line = self.live()?.chat.line(said, sender, host, now);
        let result = if line.is_ok() { "said" } else { "refused" };
        self.shared.metrics.chat.with_label_values(&[result]).inc();
        let line = line?;
        self.hear(&mut self.state.lock(), &line);
        self.announce(Word::Line { line: line.clone() });
        Ok(line)
    }

    /// Takes a line that was checked, here or elsewhere, and tells everybody.
    pub(super) fn hear(&self, state: &mut State, line: &Line) {
        let text = state.chat.add(line);
        self.tell(Event::Chat(text));
    }

    /// Switches the chat on or off, and tells everybody.
    pub fn switch_chat(&self, on: bool) -> Result<(), Refused> {
        self.hear_switch(&mut *self.live()?, on);
        self.announce(Word::Chat { on });
        Ok(())
    }

    /// Takes that the chat was switched, here or elsewhere, and tells everybody.
    pub(super) fn hear_switch(&self, state: &mut State, on: bool) {
        let text = state.chat.switch(on);
        self.tell(Event::Chat(text));
    }

    /// Takes what a node has heard before, and tells everybody where it is news.
    pub(super) fn catch_up(&self, state: &mut State, on: bool, lines: &[String]) {
        if state.chat.catch_up(on, lines) {
            self.tell(Event::ChatAnew);
        }
    }

    /// The chat as it is.
    pub fn chat(&self) -> Snapshot {
        self.state.lock().chat.snapshot()
    }
}
