import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;
import org.codelibs.opensearch.runner.OpenSearchRunner;

/** A node of OpenSearch in this process. Arguments: its folder, and the port for HTTP; nodes talk on the next one. */
public final class OpenNode {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[1]);
        OpenSearchRunner runner = new OpenSearchRunner();
        // it takes no port above 9299 otherwise
        runner.setMaxHttpPort(port);
        runner.onBuild((number, settings) -> settings
            .put("network.host", "127.0.0.1")
            .put("http.port", port)
            .put("transport.port", port + 1)
            .put("discovery.type", "single-node")
            .put("cluster.routing.allocation.disk.threshold_enabled", false));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(runner)));
        runner.build(OpenSearchRunner.newConfigs()
            .basePath(arguments[0]).clusterName("weir-tests").numOfNode(1).baseHttpPort(port - 1).useLogger()
            .moduleTypes(Modules.fit()));
        new CountDownLatch(1).await();
    }

    /** The names are for heirs alone. */
    private static final class Modules extends OpenSearchRunner {
        /** All but the analysis of languages, which asks for more of Java than a small one has. */
        static String fit() {
            return Arrays.stream(MODULE_TYPES).filter(name -> !name.contains(".analysis.")).collect(Collectors.joining(","));
        }
    }

    private static void close(OpenSearchRunner runner) {
        try {
            runner.close();
        } catch (java.io.IOException error) {
            error.printStackTrace();
        }
    }
}
