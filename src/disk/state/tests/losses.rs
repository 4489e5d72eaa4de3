//! What is lost: links, servers, and what lands late.

use super::{Content, Message, Model};

impl Model {
    pub(super) fn lose(&mut self, lost: &[u64]) {
        self.links.retain(|link| !lost.contains(link));
        let (gone, kept) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|message: &Message| lost.contains(&message.generation));
        self.sent = kept;
        for message in gone {
            let Message {
                range,
                content,
                generation,
                change,
                ..
            } = &message;
            self.table.lose(range, content, *generation);
            if let Some(at) = *change {
                let mut change = self.changes[at].take().expect("it was sent");
                change.is_sent = false;
                if self.repeats && !change.is_given_up && !matches!(content, Content::Unknown) {
                    self.changes[at] = Some(change);
                } else {
                    self.table.end(change.place, &mut Vec::new());
                }
                self.allow(range, content);
            }
            if !self.random.chance(4) {
                let number = self.table.ghosts.count();
                self.server.ghosts.push((message, number));
            }
        }
        if self.links.is_empty() {
            if let Some(flush) = &mut self.flush {
                flush.mark = None;
            }
            // What was being written again is part of what is to be written again now.
            self.again = self.table.server_lost();
        }
    }

    pub(super) fn crash(&mut self) {
        self.server.crash(&mut self.random);
        for (seen, past) in self.seen.iter_mut().zip(&self.server.past) {
            *seen = seen.with(*past);
        }
        let all = self.links.clone();
        self.lose(&all);
    }

    pub(super) fn ghost(&mut self) {
        if self.server.ghosts.is_empty() {
            return;
        }
        let at = self.random.below(self.server.ghosts.len());
        let (ghost, _) = self.server.ghosts[at].clone();
        let mut part = ghost.range.clone();
        match self.random.below(3) {
            0 => part = self.random.range(),
            _ => drop(self.server.ghosts.remove(at)),
        }
        self.server.carry_out(&ghost, &part, &mut self.random);
    }

    pub(super) fn fence(&mut self) {
        if !self.fences {
            return;
        }
        let Some(mark) = self.fencing.take() else {
            self.fencing = self.table.unfenced();
            return;
        };
        // A link of which nothing can be proven, sometimes.
        let links = self.server.ghosts.iter().map(|(ghost, _)| ghost.generation);
        let lasting = links.max().filter(|_| self.random.chance(4));
        if let Some(generation) = lasting {
            self.table.cannot_fence(generation);
            self.lasting.push(generation);
        }
        self.end_ghosts(|ghost, number, lasting| {
            number <= mark.number && !lasting.contains(&ghost.generation)
        });
        self.table.fence(mark);
    }

    /// The caller knows that all ghosts are over, and they are.
    pub(super) fn assume(&mut self) {
        self.end_ghosts(|_, _, _| true);
        self.lasting.clear();
        self.table.assume_fenced();
    }

    /// Carries out the last ghosts that there will be, or drops them.
    fn end_ghosts(&mut self, covers: impl Fn(&Message, u64, &[u64]) -> bool) {
        let lasting = std::mem::take(&mut self.lasting);
        let covers = |ghost: &(Message, u64)| covers(&ghost.0, ghost.1, &lasting);
        while let Some(at) = self.server.ghosts.iter().position(covers) {
            let (ghost, _) = self.server.ghosts.remove(at);
            if self.random.chance(2) {
                self.server
                    .carry_out(&ghost, &ghost.range, &mut self.random);
            }
        }
        self.lasting = lasting;
    }
}
