import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * A node of Elasticsearch in this process. The distribution starts it by a launcher that is not published; what is left out
 * of that here are its checks of the machine and its sandbox. Arguments: the folder with the modules, the one with the
 * configuration, and settings as name=value.
 */
public final class SingleNode {
    public static void main(String[] arguments) throws Exception {
        Map<String, String> given = new HashMap<>();
        given.put("path.home", arguments[0]);
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            if (parts.length == 2) {
                given.put(parts[0], parts[1]);
            }
        }
        Settings.Builder settings = Settings.builder();
        given.forEach(settings::put);
        LogConfigurator.registerErrorListener();
        LogConfigurator.configureESLogging();
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
            settings.build(), Map.of(), Path.of(arguments[1]), () -> "single");
        LogConfigurator.configure(environment, true);
        var modules = PluginsLoader.loadModulesBundles(environment.modulesDir());
        // false: the classes come from the class path, not from Java modules
        Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules, Set.of(), Map.of(), false));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
        node.start();
        new CountDownLatch(1).await();
    }

    private static void close(Node node) {
        try {
            node.close();
        } catch (java.io.IOException error) {
            error.printStackTrace();
        }
    }
}
