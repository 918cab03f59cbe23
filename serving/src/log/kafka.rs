//! The log of record in one partition of a Kafka-protocol topic.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rustc_hash::FxHashMap;

use crate::log::{Entry, KnownId, Log, LogError, LogSpec};

/// How long to wait for an answer of a broker.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);
/// Events read at a time when the log is opened.
const AT_ONCE: usize = 4096;

/// A log in a topic: an entry is a message, and its position is the message's offset.
///
/// One server writes to the partition, but no broker enforces this. If another server writes as well, the offsets of
/// the next append show it, and the append fails. An append is complete once every in-sync replica has it. Entries of a
/// failed append may appear in the topic later, one by one and in order; [`reopen`](Log::reopen) then retains them
/// after the entries that were [retained](Log::retained) before. The topic's own settings control how long messages are
/// retained. This must be longer than the age of the oldest snapshot, and the topic must not be compacted. The newest
/// `log.remember_ids` ids are remembered.
pub struct KafkaLog {
    spec: LogSpec,
    /// `None` after a failed write, until the log is reopened.
    producer: Mutex<Option<BaseProducer<Deliveries>>>,
    reader: Mutex<Reader>,
    retained: Mutex<Range<u64>>,
    ids: Mutex<RecentIds>,
    bytes: Mutex<u64>,
}

/// A consumer whose next message has offset `next`.
struct Reader {
    consumer: BaseConsumer,
    next: Option<u64>,
}

/// Results of the messages of one append.
#[derive(Default)]
struct Deliveries(Mutex<Delivered>);

#[derive(Default)]
struct Delivered {
    offsets: Vec<i64>,
    failed: Option<KafkaError>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let mut delivered = unpoisoned(&self.0);
        match result {
            Ok(message) => delivered.offsets.push(message.offset()),
            Err((error, _)) => delivered.failed = Some(error.clone()),
        }
    }
}

/// The newest ids.
struct RecentIds {
    most: usize,
    known: FxHashMap<String, KnownId>,
    order: VecDeque<String>,
}

impl RecentIds {
    fn add(&mut self, entry: &Entry) {
        for (id, known) in entry.known_ids() {
            if self.known.insert(id.to_owned(), known).is_none() {
                self.order.push_back(id.to_owned());
            }
        }
        while self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl KafkaLog {
    /// Opens the topic of `spec`, which must exist, and reads the newest ids.
    ///
    /// # Errors
    /// [`LogError`], naming brokers and topic: no broker answers, there is no such topic, or it holds something else.
    pub fn open(spec: &LogSpec) -> Result<KafkaLog, LogError> {
        let storage_error = |error: KafkaError| storage(spec, error);
        let consumer: BaseConsumer = client(spec)
            .set("group.id", "tempograph")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .create()
            .map_err(storage_error)?;
        let retained = watermarks(&consumer, spec)?;
        let log = KafkaLog {
            spec: spec.clone(),
            producer: Mutex::new(Some(producer(spec).map_err(storage_error)?)),
            reader: Mutex::new(Reader { consumer, next: None }),
            retained: Mutex::new(retained.clone()),
            ids: Mutex::new(RecentIds { most: spec.remember_ids, known: FxHashMap::default(), order: VecDeque::new() }),
            bytes: Mutex::new(0),
        };
        log.read_ids(retained.end.saturating_sub(spec.remember_ids as u64).max(retained.start))?;
        Ok(log)
    }

    /// Reads the ids from position `from` on.
    fn read_ids(&self, from: u64) -> Result<(), LogError> {
        let mut place = from;
        loop {
            let entries = self.read(place, AT_ONCE)?;
            if entries.is_empty() {
                return Ok(());
            }
            place += entries.len() as u64;
            let mut ids = unpoisoned(&self.ids);
            entries.iter().for_each(|entry| ids.add(entry));
        }
    }

    fn send(&self, producer: &BaseProducer<Deliveries>, entries: &[Entry], first: u64) -> Result<u64, KafkaError> {
        *unpoisoned(&producer.context().0) = Delivered::default();
        let mut bytes = 0;
        for entry in entries {
            let (key, payload) = (entry.first_seq.to_be_bytes(), entry.to_bytes());
            bytes += payload.len() as u64;
            let mut record =
                BaseRecord::to(&self.spec.topic).partition(self.spec.partition).key(&key[..]).payload(&payload[..]);
            while let Err((error, back)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                producer.poll(Duration::from_millis(10));
                record = back;
            }
        }
        producer.flush(BROKER_TIMEOUT)?;
        let delivered = std::mem::take(&mut *unpoisoned(&producer.context().0));
        let expected = first as i64..first as i64 + entries.len() as i64;
        match delivered.failed {
            Some(error) => Err(error),
            None if delivered.offsets.iter().copied().eq(expected) => Ok(bytes),
            // Messages of another writer have these offsets.
            None => Err(KafkaError::MessageProduction(RDKafkaErrorCode::Fenced)),
        }
    }
}

impl Log for KafkaLog {
    fn append(&self, entries: &[Entry]) -> Result<u64, LogError> {
        let first = self.retained().end;
        let mut held = unpoisoned(&self.producer);
        let producer = held.as_ref().ok_or_else(|| storage(&self.spec, "it is closed since a write failed"))?;
        match self.send(producer, entries, first) {
            Ok(bytes) => {
                unpoisoned(&self.retained).end += entries.len() as u64;
                *unpoisoned(&self.bytes) += bytes;
                let mut ids = unpoisoned(&self.ids);
                entries.iter().for_each(|entry| ids.add(entry));
                Ok(bytes)
            }
            Err(error) => {
                *held = None;
                Err(storage(&self.spec, error))
            }
        }
    }

    fn read(&self, from: u64, events: usize) -> Result<Vec<Entry>, LogError> {
        let retained = self.retained();
        if from < retained.start {
            return Err(LogError::NotRetained { place: from, retained });
        }
        let mut reader = unpoisoned(&self.reader);
        let (mut entries, mut count, mut place) = (Vec::new(), 0, from);
        while place < retained.end && count < events {
            let entry = reader.take(&self.spec, place)?;
            count += entry.events().max(1);
            entries.push(entry);
            place += 1;
        }
        Ok(entries)
    }

    fn retained(&self) -> Range<u64> {
        unpoisoned(&self.retained).clone()
    }

    fn find(&self, id: &str) -> Result<Option<KnownId>, LogError> {
        Ok(unpoisoned(&self.ids).known.get(id).copied())
    }

    /// Does nothing: the topic's settings control how long messages are retained.
    fn truncate_before(&self, _: u64) -> Result<(), LogError> {
        Ok(())
    }

    fn reopen(&self) -> Result<(), LogError> {
        let mut held = unpoisoned(&self.producer);
        if held.is_some() {
            return Ok(());
        }
        self.refresh()?;
        *held = Some(producer(&self.spec).map_err(|error| storage(&self.spec, error))?);
        Ok(())
    }

    fn refresh(&self) -> Result<(), LogError> {
        let found = watermarks(&unpoisoned(&self.reader).consumer, &self.spec)?;
        let known = std::mem::replace(&mut *unpoisoned(&self.retained), found).end;
        // After a failed read, these entries are read again by the next refresh, so that no id is left out.
        self.read_ids(known).inspect_err(|_| unpoisoned(&self.retained).end = known)
    }

    /// Bytes appended since the log was opened. Only the broker knows the size of the topic.
    fn bytes(&self) -> u64 {
        *unpoisoned(&self.bytes)
    }
}

impl Reader {
    /// The entry at position `place`.
    fn take(&mut self, spec: &LogSpec, place: u64) -> Result<Entry, LogError> {
        let storage_error = |error: KafkaError| storage(spec, error);
        if self.next != Some(place) {
            self.next = None;
            let mut assignment = TopicPartitionList::new();
            assignment
                .add_partition_offset(&spec.topic, spec.partition, Offset::Offset(place as i64))
                .map_err(storage_error)?;
            self.consumer.assign(&assignment).map_err(storage_error)?;
        }
        let damaged = |fact| LogError::Damaged { place, fact };
        let message = self
            .consumer
            .poll(BROKER_TIMEOUT)
            .ok_or_else(|| storage(spec, format!("message {place} does not come")))?
            .map_err(storage_error)?;
        if message.offset() != place as i64 {
            return Err(damaged(format!("it is missing; the next there is has the offset {}", message.offset())));
        }
        let entry = Entry::from_bytes(message.payload().unwrap_or_default()).map_err(damaged)?;
        self.next = Some(place + 1);
        Ok(entry)
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog")
            .field("topic", &self.spec.topic)
            .field("retained", &self.retained())
            .finish_non_exhaustive()
    }
}

fn client(spec: &LogSpec) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &spec.brokers);
    spec.client.iter().for_each(|(key, value)| _ = config.set(key, value));
    config
}

/// A producer that, while it exists, neither loses nor repeats nor reorders messages.
fn producer(spec: &LogSpec) -> Result<BaseProducer<Deliveries>, KafkaError> {
    let mut config = client(spec);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("delivery.timeout.ms", (BROKER_TIMEOUT.as_millis() - 1000).to_string());
    // The whole append is sent at once, so waiting for more messages would only add latency.
    config.set("linger.ms", "0");
    BaseProducer::from_config_and_context(&config, Deliveries::default())
}

fn watermarks(consumer: &BaseConsumer, spec: &LogSpec) -> Result<Range<u64>, LogError> {
    let (low, high) =
        consumer.fetch_watermarks(&spec.topic, spec.partition, BROKER_TIMEOUT).map_err(|error| storage(spec, error))?;
    Ok(low.max(0) as u64..high.max(0) as u64)
}

fn storage(spec: &LogSpec, fact: impl fmt::Display) -> LogError {
    LogError::Storage { place: spec.address(), fact: fact.to_string() }
}

/// Ignores poisoning: no panic leaves a guarded value half-changed.
fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
