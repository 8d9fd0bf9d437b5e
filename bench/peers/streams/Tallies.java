import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The peer on Kafka Streams: one stream thread, the accounts in an in-memory store with a changelog and a cache, so
 * that a key that changes often is written once a commit; one output per event. Refused records are dropped, which is
 * less than the engine does: it keeps them as dead letters.
 *
 * <p>Arguments: bootstrap servers, application id, input, output, guarantee, commit interval in ms, state folder.
 */
public final class Tallies {
    static final String STORE = "tallies";
    static final String TYPE = "steward.ticket.opened.v1";
    static final int WORST = 4;

    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Event {
        public String specversion, id, source, type, subject, time, partitionkey, datacontenttype;
        public Ticket data;
    }

    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Ticket {
        public String ticket;
        public Integer severity;
    }

    record Tally(long count, long total, int worst, String last) {
        static final Tally EMPTY = new Tally(0, 0, WORST, "");

        Tally after(Ticket ticket) {
            return new Tally(count + 1, total + ticket.severity, Math.min(worst, ticket.severity), ticket.ticket);
        }

        static byte[] encode(Tally tally) {
            if (tally == null) return null;
            byte[] last = tally.last.getBytes(StandardCharsets.UTF_8);
            return ByteBuffer.allocate(20 + last.length)
                    .putLong(tally.count).putLong(tally.total).putInt(tally.worst).put(last).array();
        }

        static Tally decode(byte[] raw) {
            if (raw == null) return null;
            ByteBuffer from = ByteBuffer.wrap(raw);
            return new Tally(from.getLong(), from.getLong(), from.getInt(),
                    new String(raw, 20, raw.length - 20, StandardCharsets.UTF_8));
        }
    }

    static final Serde<Tally> TALLY = Serdes.serdeFrom((topic, tally) -> Tally.encode(tally),
            (topic, raw) -> Tally.decode(raw));

    static final class Reducer implements Processor<byte[], byte[], byte[], byte[]> {
        private static final ObjectReader READER = JsonMapper.builder()
                .disable(MapperFeature.ALLOW_COERCION_OF_SCALARS)
                .disable(DeserializationFeature.ACCEPT_FLOAT_AS_INT)
                .build().readerFor(Event.class);
        private static final JsonFactory WRITER = new JsonFactory();
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<String, Tally> store;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            this.store = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            String key = new String(record.key(), StandardCharsets.UTF_8);
            Event event = read(key, record.value());
            if (event == null) return;
            Tally before = store.get(key);
            Tally tally = (before == null ? Tally.EMPTY : before).after(event.data);
            store.put(key, tally);
            context.forward(record.withValue(written(event, tally)));
        }

        /** The event, or null where it breaks the contract. */
        private static Event read(String key, byte[] value) {
            Event event;
            try {
                event = READER.readValue(value);
            } catch (JsonProcessingException refused) {
                return null;
            } catch (IOException impossible) {
                throw new UncheckedIOException(impossible);
            }
            boolean valid = event != null && event.data != null
                    && "1.0".equals(event.specversion) && TYPE.equals(event.type)
                    && (event.datacontenttype == null || "application/json".equals(event.datacontenttype))
                    && isId(event.id) && isId(event.source) && isId(event.subject) && isId(event.partitionkey)
                    && key.equals(event.partitionkey) && isTime(event.time)
                    && isId(event.data.ticket)
                    && event.data.severity != null && event.data.severity >= 1 && event.data.severity <= WORST;
            return valid ? event : null;
        }

        private static boolean isId(String text) {
            if (text == null || text.isEmpty() || text.length() > 200) return false;
            for (int place = 0; place < text.length(); place++) if (text.charAt(place) < ' ') return false;
            return true;
        }

        private static boolean isTime(String text) {
            if (text == null) return false;
            try {
                int year = OffsetDateTime.parse(text).getYear();
                return year >= 1990 && year < 2200;
            } catch (DateTimeParseException refused) {
                return false;
            }
        }

        private static byte[] written(Event event, Tally tally) {
            ByteArrayOutputStream told = new ByteArrayOutputStream(384);
            try (JsonGenerator json = WRITER.createGenerator(told)) {
                json.writeStartObject();
                json.writeStringField("specversion", "1.0");
                json.writeStringField("id", event.id);
                json.writeStringField("source", "bench");
                json.writeStringField("type", "bench.account.tallied.v1");
                json.writeStringField("subject", event.partitionkey);
                json.writeStringField("time", event.time);
                json.writeStringField("datacontenttype", "application/json");
                json.writeStringField("partitionkey", event.partitionkey);
                json.writeNumberField("sourcerank", 100);
                json.writeObjectFieldStart("data");
                json.writeNumberField("count", tally.count());
                json.writeNumberField("total", tally.total());
                json.writeNumberField("worst", tally.worst());
                json.writeStringField("last", tally.last());
                json.writeEndObject();
                json.writeEndObject();
            } catch (IOException impossible) {
                throw new UncheckedIOException(impossible);
            }
            return told.toByteArray();
        }
    }

    public static void main(String[] given) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", given[0]);
        settings.put("application.id", given[1]);
        settings.put("processing.guarantee", given[4]);
        settings.put("commit.interval.ms", given[5]);
        settings.put("state.dir", given[6]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("num.stream.threads", "1");
        settings.put("replication.factor", "1");
        settings.put("statestore.cache.max.bytes", String.valueOf(64 << 20));
        settings.put("max.poll.records", "2000");
        settings.put("producer.batch.size", String.valueOf(256 << 10));
        settings.put("producer.linger.ms", "100");

        StoreBuilder<KeyValueStore<String, Tally>> store = Stores
                .keyValueStoreBuilder(Stores.inMemoryKeyValueStore(STORE), Serdes.String(), TALLY)
                .withLoggingEnabled(Map.of()).withCachingEnabled();
        ByteArrayDeserializer in = new ByteArrayDeserializer();
        ByteArraySerializer out = new ByteArraySerializer();
        Topology topology = new Topology()
                .addSource("in", in, in, given[2])
                .addProcessor("reduce", Reducer::new, "in")
                .addStateStore(store, "reduce")
                .addSink("out", given[3], out, out, "reduce");
        KafkaStreams streams = new KafkaStreams(topology, settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(3);
            return null;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
    }
}
