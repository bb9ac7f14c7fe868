import java.nio.ByteBuffer;
import java.util.zip.CRC32;

/**
 * Decodes frames whose pixels lie in direct buffers: outside Java's heap, in memory of malloc's.
 *
 * <p>To the collector each is an object of a few dozen bytes, and the heap never fills; when a
 * buffer is found unreachable, its cleaner frees the pixels. Java has a limit of its own for direct
 * buffers, which is the heap's (a quarter of the machine's memory) unless it is set: at this limit
 * it collects by itself. It is set out of reach here, as it is for what a native library allocates,
 * through JNI or otherwise, of which Java knows nothing.
 *
 * <pre>
 * javac Frames.java
 * java -Xmx512m -XX:MaxDirectMemorySize=8g Frames                       3 GB
 * heapledger run --soft-limit 256MiB --on-pressure jvm -- java ...      about what was asked for
 * </pre>
 */
public final class Frames {
    /** 1920 x 1080 in YUV 4:2:0. */
    private static final int FRAME_BYTES = 1920 * 1080 * 3 / 2;

    /** Frames that are shown one after the other: so many are in use at once. */
    private static final int IN_USE = 8;

    private Frames() {}

    private static ByteBuffer decode(int number) {
        ByteBuffer pixels = ByteBuffer.allocateDirect(FRAME_BYTES);
        int noise = number * 0x9e3779b1 + 1;
        for (int i = 0; i + 8 <= FRAME_BYTES; i += 8) {
            noise = noise * 1664525 + 1013904223;
            pixels.putLong(i, noise * 0x100000001L);
        }
        return pixels;
    }

    public static void main(String[] arguments) {
        int count = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 1000;
        ByteBuffer[] shown = new ByteBuffer[IN_USE];
        CRC32 checksum = new CRC32();
        for (int number = 0; number < count; number++) {
            int place = number % IN_USE;
            if (shown[place] != null) {
                checksum.update(shown[place]);
            }
            shown[place] = decode(number);
        }
        System.out.printf("%d frames, checksum %08x%n", count, checksum.getValue());
    }
}
