//! The chat of a session.

use super::{Session, State};
use crate::chat::{Added, Line, Said, Sender, Snapshot};
use crate::event::Event;
use crate::nodes::link::What;
use crate::nodes::wire::{Message, NodeId, Word};
use crate::refused::Refused;

impl Session {
    /// Takes what somebody here writes, and tells everybody; returns the line.
    pub fn say(&self, said: &Said, sender: Sender<'_>, host: bool, now: i64) -> Result<Line, Refused> {
        let mut state = self.live()?;
        let line = state.chat.line(said, sender, host, now);
        let result = if line.is_ok() { "said" } else { "refused" };
        self.shared.metrics.chat.with_label_values(&[result]).inc();
        let line = line?;
        self.hear(&mut state, &line);
        self.announce(Word::Line { line: line.clone() });
        Ok(line)
    }

    /// Takes a line that was checked, here or elsewhere, and tells everybody.
    pub(super) fn hear(&self, state: &mut State, line: &Line) {
        match state.chat.add(line) {
            Added::Last(text) => self.tell(Event::Chat(text)),
            Added::Late => self.tell(Event::ChatAnew),
            Added::Known => {}
        }
    }

    /// Switches the chat on or off, and tells everybody.
    pub fn switch_chat(&self, on: bool, now: i64) -> Result<(), Refused> {
        let (id, text) = self.live()?.chat.switch(on, now);
        self.tell(Event::Chat(text));
        self.announce(Word::Chat { on, id });
        Ok(())
    }

    /// Takes that the chat was switched at another node, and tells everybody.
    pub(super) fn hear_switch(&self, state: &mut State, on: bool, id: i64) {
        if let Some(text) = state.chat.switched_elsewhere(on, id) {
            self.tell(Event::Chat(text));
        }
    }

    /// Tells `node`, or all, what was said, where there is something to tell.
    pub(super) fn recall(&self, state: &State, node: NodeId) {
        if let Some(word) = state.chat.word() {
            self.send(What::Message(node, Message::Word(word)));
        }
    }

    /// This node may have missed what others said, and they what was said here.
    pub fn exchange_chat(&self) {
        self.announce(Word::Recall);
        self.recall(&self.state.lock(), NodeId::ALL);
    }

    /// Takes what a node has heard before, and tells everybody where it is news.
    pub(super) fn catch_up(&self, state: &mut State, on: bool, switched: i64, lines: &[String]) {
        if state.chat.catch_up(on, switched, lines) {
            self.tell(Event::ChatAnew);
        }
    }

    /// The chat as it is.
    pub fn chat(&self) -> Snapshot {
        self.state.lock().chat.snapshot()
    }
}
