//! The chat of a session.

use super::Session;
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
        self.hear(&line);
        self.announce(Word::Line { line: line.clone() });
        Ok(line)
    }

    /// Takes a line that was checked, here or elsewhere, and tells everybody.
    pub fn hear(&self, line: &Line) {
        let mut state = self.state.lock();
        let text = state.chat.add(line);
        self.tell(Event::Chat(text));
    }

    /// Switches the chat on or off, and tells everybody.
    pub fn switch_chat(&self, on: bool) -> Result<(), Refused> {
        drop(self.live()?);
        self.hear_switch(on);
        self.announce(Word::Chat { on });
        Ok(())
    }

    /// Takes that the chat was switched, here or elsewhere, and tells everybody.
    pub fn hear_switch(&self, on: bool) {
        let text = self.state.lock().chat.switch(on);
        self.tell(Event::Chat(text));
    }

    /// The chat as it is.
    pub fn chat(&self) -> Snapshot {
        self.state.lock().chat.snapshot()
    }
}
