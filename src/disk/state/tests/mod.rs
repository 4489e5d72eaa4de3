//! The rules against a model of servers that lose links, crash, and carry out late what was given
//! up.
//!
//! The model keeps for each byte what its users may see: after a success one value, after an
//! outcome that was said to be unknown several. Every read, and every flush that promises
//! something, is compared with it.

mod losses;
mod server;

use std::ops::Range;
use std::task::Waker;

use bytes::Bytes;

use server::{Message, Random, Server, Values, values};

use super::{Content, Mark, Place, Table, Turn};

const SIZE: usize = 5;

/// A change, as its caller sees it.
struct Change {
    place: Place,
    range: Range<u64>,
    content: Content,
    fua: bool,
    is_sent: bool,
    is_given_up: bool,
}

/// A flush on its way: what it waits for, and once it is sent, what it covers.
struct Flush {
    begun: u64,
    /// How many changes were begun before it.
    before: usize,
    mark: Option<u64>,
}

struct Model {
    random: Random,
    table: Table,
    server: Server,
    repeats: bool,
    fences: bool,
    /// Links that live.
    links: Vec<u64>,
    generation: u64,
    changes: Vec<Option<Change>>,
    sent: Vec<Message>,
    /// What is to be written again before anything else.
    again: Vec<(Range<u64>, Content)>,
    /// What a reader may see, and the same if nothing was lost with a server.
    seen: [Values; SIZE],
    promised: [Values; SIZE],
    flush: Option<Flush>,
    /// A fence on its way: what it covers.
    fencing: Option<Mark>,
    /// Links that it does not cover.
    lasting: Vec<u64>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let (journal, repeats, fences) = (random.chance(2), random.chance(2), random.chance(2));
        let few = random.chance(3);
        let journal = journal.then_some(if few { 3 } else { 1 << 20 });
        let values = [Values::one(0); SIZE];
        Self {
            random,
            table: Table::new(journal),
            server: Server {
                bytes: [0; SIZE],
                past: values,
                since: values,
                ghosts: Vec::new(),
            },
            repeats,
            fences,
            links: vec![1],
            generation: 1,
            changes: Vec::new(),
            sent: Vec::new(),
            again: Vec::new(),
            seen: values,
            promised: values,
            flush: None,
            fencing: None,
            lasting: Vec::new(),
        }
    }

    fn allow(&mut self, range: &Range<u64>, content: &Content) {
        for byte in range.clone() {
            let values = values(content, range, byte);
            for allowed in [&mut self.seen, &mut self.promised] {
                let allowed = &mut allowed[byte as usize];
                *allowed = allowed.with(values);
            }
        }
    }

    fn begin(&mut self) {
        if self.changes.iter().flatten().count() >= 5 {
            return;
        }
        let range = self.random.range();
        let content = match self.random.below(6) {
            0 => Content::Zeroes,
            1 if self.random.chance(3) => Content::Unknown,
            _ => {
                let value = 1 + self.random.below(3) as u8;
                let other = 1 + self.random.below(3) as u8;
                let data = range
                    .clone()
                    .map(|at| if at % 2 == 0 { value } else { other });
                Content::Data(data.collect::<Vec<u8>>().into())
            }
        };
        let place = self.table.begin(range.clone());
        self.changes.push(Some(Change {
            place,
            range,
            content,
            fua: self.random.chance(8),
            is_sent: false,
            is_given_up: false,
        }));
    }

    fn pick(&mut self) -> Option<usize> {
        let open = self.changes.iter().enumerate();
        let open: Vec<usize> = open
            .filter_map(|(at, change)| change.as_ref().map(|_| at))
            .collect();
        (!open.is_empty()).then(|| open[self.random.below(open.len())])
    }

    fn send(&mut self) {
        let Some(at) = self.pick() else { return };
        if self.links.is_empty() || !self.again.is_empty() {
            return;
        }
        let Some(change) = &mut self.changes[at] else {
            return;
        };
        if change.is_sent || change.is_given_up {
            return;
        }
        let (place, range, content) = (change.place, &change.range, &change.content);
        match (self.table).turn(place, range, content, Waker::noop()) {
            Turn::Go => {
                change.is_sent = true;
                let generation = self.links[self.random.below(self.links.len())];
                self.sent.push(Message {
                    range: range.clone(),
                    content: content.clone(),
                    generation,
                    fua: change.fua,
                    change: Some(at),
                });
            }
            Turn::Wait => {}
            Turn::Held(hold) if self.fences && !hold.is_lasting => {}
            Turn::Held(_) => {
                self.table.end(place, &mut Vec::new());
                self.changes[at] = None;
            }
        }
    }

    fn write_again(&mut self) {
        if let (Some((range, content)), false) = (self.again.last().cloned(), self.links.is_empty())
        {
            // One at a time; it stays in the list until it is answered.
            if self.sent.iter().all(|message| message.change.is_some()) {
                let generation = self.links[0];
                self.sent.push(Message {
                    range,
                    content,
                    generation,
                    fua: false,
                    change: None,
                });
            }
        }
    }

    fn answer(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let at = self.random.below(self.sent.len());
        let message = self.sent[at].clone();
        if self.random.chance(3) {
            let part = self.random.range();
            return self.server.carry_out(&message, &part, &mut self.random);
        }
        self.sent.remove(at);
        let fails = message.change.is_some() && self.random.chance(10);
        let part = if fails {
            self.random.range()
        } else {
            message.range.clone()
        };
        self.server.carry_out(&message, &part, &mut self.random);
        let Message {
            range,
            content,
            generation,
            fua,
            change,
        } = message;
        if fails {
            self.allow(&range, &content);
        } else {
            for byte in range.clone() {
                let values = values(&content, &range, byte);
                self.seen[byte as usize] = values;
                self.promised[byte as usize] = values;
                if fua {
                    let now = Values::one(self.server.bytes[byte as usize]);
                    (
                        self.server.past[byte as usize],
                        self.server.since[byte as usize],
                    ) = (now, now);
                }
            }
            self.table
                .acknowledge(&range, &range, &content, generation, fua);
        }
        match change {
            Some(at) => {
                let change = self.changes[at].take();
                if let Some(change) = change {
                    self.table.end(change.place, &mut Vec::new());
                }
            }
            None => drop(self.again.pop()),
        }
    }

    fn flush(&mut self) {
        let begun = self.table.begun();
        let (before, mark) = (self.changes.len(), None);
        let flush = self.flush.get_or_insert(Flush {
            begun,
            before,
            mark,
        });
        if self.links.is_empty() || !self.again.is_empty() {
            return;
        }
        let Some(mark) = flush.mark else {
            if self.table.is_settled(flush.begun) {
                let sent = |change: &Change| change.is_sent;
                let before = &self.changes[..flush.before];
                assert!(!before.iter().flatten().any(sent), "the flush covers it");
                flush.mark = Some(self.table.acknowledged());
                self.server.since = self.server.bytes.map(Values::one);
            }
            return;
        };
        self.flush = None;
        self.server.past = self.server.since;
        self.table.flushed(mark);
        let unsure = self.table.take_unsure();
        for byte in 0..SIZE {
            if unsure.iter().any(|range| range.contains(&(byte as u64))) {
                self.promised[byte] = self.seen[byte];
            } else if !self.changes(byte as u64) {
                let (promised, found) = (self.promised[byte], self.server.bytes[byte]);
                assert!(
                    promised.has(found),
                    "flushed byte {byte} is {found}, not {promised:?}"
                );
                self.seen[byte] = promised;
            }
        }
    }

    /// Whether a change of this byte is on its way.
    fn changes(&self, byte: u64) -> bool {
        self.sent
            .iter()
            .any(|message| message.range.contains(&byte))
    }

    fn read(&self) {
        if self.links.is_empty() || !self.again.is_empty() {
            return;
        }
        for byte in 0..SIZE {
            let (seen, found) = (self.seen[byte], self.server.bytes[byte]);
            if !self.changes(byte as u64) {
                assert!(seen.has(found), "byte {byte} is {found}, not {seen:?}");
            }
        }
    }

    fn give_up(&mut self) {
        let Some(at) = self.pick() else { return };
        let Some(change) = &mut self.changes[at] else {
            return;
        };
        if change.is_sent {
            change.is_given_up = true;
            return;
        }
        let place = change.place;
        self.table.end(place, &mut Vec::new());
        self.changes[at] = None;
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0..=4 => self.begin(),
            5..=9 => self.send(),
            10..=14 => self.answer(),
            15 if self.links.len() < 2 => {
                self.generation += 1;
                self.links.push(self.generation);
            }
            16 if !self.links.is_empty() => {
                let link = self.links[self.random.below(self.links.len())];
                self.lose(&[link]);
            }
            17 if self.random.chance(2) => self.crash(),
            18 => self.ghost(),
            19 if self.random.chance(6) => self.assume(),
            19 => self.fence(),
            20 => self.flush(),
            21 => self.give_up(),
            22 => self.write_again(),
            _ => self.read(),
        }
        self.write_again();
    }
}

#[test]
fn nothing_newer_is_ever_undone() {
    let cases = std::env::var("NBD_DISK_CASES").ok();
    let cases = cases.map_or(20_000, |cases| cases.parse().expect("a number"));
    for seed in 0..cases {
        let result = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            for _ in 0..150 {
                model.step();
            }
        });
        if let Err(panic) = result {
            eprintln!("case {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn the_model_lands_ghosts() {
    let mut model = Model::new(0);
    let content = Content::Data(Bytes::from_static(&[3; SIZE]));
    let (range, whole) = (0..SIZE as u64, 0..SIZE as u64);
    let (generation, fua, change) = (1, false, None);
    let ghost = Message {
        range,
        content,
        generation,
        fua,
        change,
    };
    model.server.carry_out(&ghost, &whole, &mut model.random);
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.read()));
    assert!(read.is_err(), "a ghost that nobody foresaw is found");
}
