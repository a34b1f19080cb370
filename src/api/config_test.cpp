#include "api/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace keelback::api {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using json = nlohmann::json;

std::string sentences(const ConfigProblems& problems) {
  std::string text;
  for (const ConfigProblem& problem : problems) text += to_string(problem) + "\n";
  return text;
}

// A file that is gone with the test.
class File {
 public:
  explicit File(std::string_view text) {
    std::string path = (std::filesystem::temp_directory_path() / "keelback-config-XXXXXX").string();
    const int fd = ::mkstemp(path.data());
    EXPECT_GE(fd, 0);
    ::close(fd);
    path_ = path;
    write(text);
  }
  ~File() { std::filesystem::remove(path_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  void write(std::string_view text) const { std::ofstream(path_, std::ios::trunc) << text; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

ConfigStore loaded(const ConfigStore::Sources& sources) {
  auto store = ConfigStore::load(sources);
  EXPECT_TRUE(store.has_value()) << sentences(store.error());
  return std::move(*store);
}

// Goal: of the five layers the highest that has a word wins, and each value says whose word it is.
TEST(ConfigStore, PutsLayersOnTopOfEachOtherAndKeepsTheirProvenance) {
  const File file(
      "[pool]\nworkers = 3\nqueue_max = 30\n\n[sessions]\nidle_ttl = \"3m\"\nmax_age = \"3h\"\n");
  ConfigStore store = loaded({.file = file.path(),
                              .environment = {{"KEELBACK_POOL_WORKERS", "4"},
                                              {"KEELBACK_SESSIONS_IDLE_TTL", "4m"},
                                              {"PATH", "/bin"}},
                              .flags = {{"pool.workers", "5", "--workers"}}});
  ASSERT_TRUE(store.patch(R"({"sessions.max_age": "6h"})", std::nullopt).has_value());

  EXPECT_EQ(store.settings().pool.workers, 5u);
  EXPECT_EQ(store.settings().pool.queue_max, 30u);
  EXPECT_EQ(store.settings().sessions.idle_ttl, 4min);
  EXPECT_EQ(store.settings().sessions.max_age, 6h);
  EXPECT_EQ(store.settings().calls.deadline, 60s);

  const auto from = [&](std::string_view key) {
    const auto p = store.provenance(key);
    return std::string(to_string(p.layer)) + " " + p.where;
  };
  EXPECT_EQ(from("pool.workers"), "flags --workers");
  EXPECT_EQ(from("pool.queue_max"), "file " + file.path() + ":3");
  EXPECT_EQ(from("sessions.idle_ttl"), "environment KEELBACK_SESSIONS_IDLE_TTL");
  EXPECT_EQ(from("sessions.max_age"), "runtime PATCH");
  EXPECT_EQ(from("calls.deadline"), "default ");
  EXPECT_THAT(store.warnings(), IsEmpty());
}

TEST(ConfigStore, NamesFileLineColumnKeyAndTheNearestKnownKeyOfEachMistake) {
  const auto problems_of = [](std::string_view toml) {
    const auto read = read_config_text(toml, "keelback.toml");
    return read ? std::string("no problem") : sentences(read.error());
  };
  EXPECT_EQ(problems_of("[pool]\nworker = 3\n\n[calls]\ndeadline = 5\n"),
            "keelback.toml:5:12: calls.deadline: '5' lacks its unit: write a duration such as "
            "200ms, 5s, 2m or 1h\n"
            "keelback.toml:2:10: unknown key 'pool.worker'; did you mean pool.workers?\n");
  EXPECT_EQ(problems_of("[session]\nidle_ttl = \"5m\"\n"),
            "keelback.toml:1:1: unknown section [session]; did you mean [sessions]?\n");
  EXPECT_EQ(problems_of("workers = 3\n"),
            "keelback.toml:1:11: unknown key 'workers'; did you mean pool.workers?\n");
  EXPECT_EQ(problems_of("pool = 3\n"), "keelback.toml:1:8: unknown key 'pool'\n");
  EXPECT_EQ(problems_of("pool.workers = 1979-05-27\n"),
            "keelback.toml:1:16: pool.workers: takes a whole number, not this\n");
  EXPECT_EQ(problems_of("server.listen = [\"a:1,b:2\"]\n"),
            "keelback.toml:1:17: server.listen: an element of the list may not contain a comma\n");
  EXPECT_EQ(problems_of("server.listen = [1]\n"),
            "keelback.toml:1:17: server.listen: takes a list of texts\n");
  EXPECT_THAT(problems_of("[pool\nworkers = 3\n"), HasSubstr("keelback.toml:1:6: "));
  EXPECT_THAT(problems_of("a = 1\na = 2\n"), HasSubstr("keelback.toml:2:"));
  EXPECT_EQ(problems_of("server.listen = [\"127.0.0.1:1\", \"unix:/a\"]\ncalls.retry_budget = 0.5\n"
                        "sessions.mode = \"hint\"\ncalls.grace = 0\n"),
            "no problem");
}

// Goal: a text that nests deeper than a stack is refused with its line, in a file and in a patch.
TEST(ConfigStore, DepthIsRefused) {
  const auto deep = [](std::string_view piece) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += piece;
    return text;
  };
  const auto problems_of = [](const std::string& toml) {
    return sentences(read_config_text(toml, "keelback.toml").error());
  };
  EXPECT_EQ(problems_of("[pool]\n" + deep("a.") + "a = 1\n"),
            "keelback.toml:2: a key has more than 16 dots\n");
  EXPECT_EQ(problems_of("[" + deep("a.") + "a]\n"),
            "keelback.toml:1: a key has more than 16 dots\n");
  for (const char* piece : {"[", "{a=", "[{a="}) {
    EXPECT_EQ(problems_of("\nx = " + deep(piece) + "\n"),
              "keelback.toml:2: values nest deeper than 32 levels\n");
  }
  auto store = loaded({});
  const auto patched =
      store.patch("{\"pool.workers\": " + deep("[") + deep("]") + "}", std::nullopt);
  ASSERT_FALSE(patched);
  EXPECT_THAT(sentences(patched.error().problems), HasSubstr("nests too deep"));
}

TEST(ConfigStore, SaysWhyAFileCannotBeRead) {
  EXPECT_EQ(sentences(read_config_file("/nonexistent/k.toml").error()),
            "/nonexistent/k.toml: the configuration file cannot be read: No such file or "
            "directory\n");
  EXPECT_THAT(sentences(read_config_file("/proc").error()), HasSubstr("not a regular file"));
  const File at_limit("#" + std::string((1 << 20) - 1, 'x'));
  EXPECT_TRUE(read_config_file(at_limit.path()).has_value());
  const File large("#" + std::string(1 << 20, 'x'));
  EXPECT_THAT(sentences(read_config_file(large.path()).error()), HasSubstr("larger than 1MiB"));
}

TEST(ConfigStore, WarnsWhenOthersCanReadAFileWithASecret) {
  const File file("server.token = \"hunter2\"\n");
  ASSERT_EQ(::chmod(file.path().c_str(), 0644), 0);
  EXPECT_THAT(
      loaded({.file = file.path()}).warnings(),
      ElementsAre(file.path() + " holds server.token and can be read by others; chmod 600 it"));
  ASSERT_EQ(::chmod(file.path().c_str(), 0600), 0);
  EXPECT_THAT(loaded({.file = file.path()}).warnings(), IsEmpty());
}

TEST(ConfigStore, WarnsAboutVariablesThatLookLikeOursAndLeavesTheOthersAlone) {
  const auto source = read_config_environment({{"KEELBACK_POOL_WORKER", "4"},
                                               {"KEELBACK_BACKEND", "sim"},
                                               {"KEELBACK_LEVEL", "light"},
                                               {"KEELBACK_TIMEOUTS", "extended"},
                                               {"KEELBACK_URL", "127.0.0.1:1"},
                                               {"KEELBACK_WORKER", "1"},
                                               {"KEELBACK_PYTHON_DIR", "/x"},
                                               {"KEELBACK_LIBEXEC_DIR", "/y"},
                                               {"KEELBACK_TEST_ID", "abc"},
                                               {"KEELBACK_DSPY_LOG", "info"},
                                               {"POOL_WORKERS", "9"}});
  ASSERT_TRUE(source.has_value());
  EXPECT_THAT(source->warnings,
              ElementsAre("the environment variable KEELBACK_POOL_WORKER is not known and ignored; "
                          "did you mean KEELBACK_POOL_WORKERS?"));
  EXPECT_TRUE(source->layer.empty());

  const auto wrong = read_config_environment({{"KEELBACK_POOL_WORKERS", "many"}});
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(sentences(wrong.error()),
            "KEELBACK_POOL_WORKERS: pool.workers: 'many' is not a whole number\n");
  for (const SettingRow& row : settings_schema()) {
    Settings defaults;
    const auto each = read_config_environment({{environment_name(row.key), row.get(defaults)}});
    ASSERT_TRUE(each.has_value()) << row.key;
    EXPECT_TRUE(each->layer.contains(row.key)) << row.key;
  }
}

// Goal: what systemd's LoadCredential= passes sets the token, and a variable is above it.
TEST(ConfigStore, TakesSecretsFromTheCredentialsOfTheServiceManager) {
  std::string directory =
      (std::filesystem::temp_directory_path() / "keelback-credentials-XXXXXX").string();
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/keelback.server.token";
  const auto token_of = [&](Environment more) {
    more.emplace_back("CREDENTIALS_DIRECTORY", directory);
    const ConfigStore store = loaded({.environment = std::move(more)});
    return store.settings().server.token + " " + store.provenance("server.token").where;
  };
  EXPECT_EQ(token_of({}), " ") << "no such credential";
  std::ofstream(path) << "";
  EXPECT_EQ(token_of({}), " ") << "an empty one: systemd's default of an optional credential";
  std::ofstream(path) << "hunter2\n";
  EXPECT_EQ(token_of({}), "hunter2 credential keelback.server.token");
  EXPECT_EQ(token_of({{"KEELBACK_SERVER_TOKEN", "typed"}}), "typed KEELBACK_SERVER_TOKEN");
  EXPECT_EQ(loaded({}).settings().server.token, "") << "nothing is passed";

  std::ofstream(path) << std::string(5000, 'x');
  const auto store = ConfigStore::load({.environment = {{"CREDENTIALS_DIRECTORY", directory}}});
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(sentences(store.error()),
            "credential keelback.server.token: " + path + " is larger than 4KiB\n");
  std::filesystem::remove_all(directory);
}

TEST(ConfigStore, CollectsTheProblemsOfAllSources) {
  const File file("[pool]\nqueue_max = 0\n");
  const auto store =
      ConfigStore::load({.file = file.path(),
                         .environment = {{"KEELBACK_CALLS_GRACE", "long"}},
                         .flags = {{"log.level", "loud", "--set"}, {"x", "1", "--set"}}});
  ASSERT_FALSE(store.has_value());
  ASSERT_EQ(store.error().size(), 4u) << sentences(store.error());
  EXPECT_EQ(store.error()[0].where, file.path() + ":2:13");
  EXPECT_EQ(store.error()[1].where, "KEELBACK_CALLS_GRACE");
  EXPECT_EQ(store.error()[2].where, "--set");
}

// Goal: settings that fit alone but not together are refused at start and at run time alike.
TEST(ConfigStore, RefusesSettingsThatContradictEachOther) {
  const auto store = ConfigStore::load({.flags = {{"pool.min_ready", "4", "--set"}}});
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(sentences(store.error()), "--set: pool.min_ready (4) is more than pool.workers (2)\n");

  ConfigStore good = loaded({.flags = {{"pool.min_ready", "2", "--set"}}});
  const auto patched = good.patch(R"({"pool.workers": 1})", std::nullopt);
  ASSERT_FALSE(patched.has_value());
  EXPECT_FALSE(patched.error().stale);
  EXPECT_EQ(good.settings().pool.workers, 2u);
  EXPECT_TRUE(good.patch(R"({"pool.workers": 1, "pool.min_ready": 1})", std::nullopt).has_value());
}

TEST(ConfigStore, PatchesAllOrNothing) {
  ConfigStore store = loaded({});
  const Settings before = store.settings();
  const std::string etag = store.etag();
  const auto refused = store.patch(
      R"({"sessions.idle_ttl": "200ms", "sessions.max": 0, "pool.backend": "sim", "calls.x": 1,
          "calls.grace": {"a": 1}, "calls.retries": 2.5})",
      std::nullopt);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().problems.size(), 5u) << sentences(refused.error().problems);
  EXPECT_THAT(sentences(refused.error().problems),
              HasSubstr("pool.backend: cannot change while the program runs; set it in the "
                        "configuration file and restart"));
  EXPECT_EQ(store.settings(), before);
  EXPECT_EQ(store.etag(), etag);

  const auto done = store.patch(
      R"({"sessions.idle_ttl": "200ms", "pool.workers": 4, "log.level": "debug", "calls.grace": "2s"})",
      etag);
  ASSERT_TRUE(done.has_value());
  EXPECT_THAT(done->keys, ElementsAre("pool.workers", "sessions.idle_ttl", "log.level"))
      << "calls.grace is what it was";
  EXPECT_EQ(store.settings().sessions.idle_ttl, 200ms);
  EXPECT_EQ(store.revision(), 2u);
  EXPECT_NE(store.etag(), etag);
}

// Goal: a value of another JSON type is refused with the key and the type that it takes, and is not
// read as the text that it would print as. A text may stand for anything, as on the command line.
TEST(ConfigStore, RefusesValuesOfAnotherType) {
  ConfigStore store = loaded({});
  const auto why = [&](std::string_view patch) {
    const auto refused = store.patch(patch, std::nullopt);
    return refused ? std::string("taken") : sentences(refused.error().problems);
  };
  EXPECT_THAT(why(R"({"server.token": 12345})"),
              HasSubstr("server.token: takes a text, not a number"));
  EXPECT_THAT(why(R"({"server.token": ["a"]})"),
              HasSubstr("server.token: takes a text, not a list"));
  EXPECT_THAT(why(R"({"server.token": true})"),
              HasSubstr("server.token: takes a text, not a truth value"));
  EXPECT_THAT(why(R"({"pool.workers": [3]})"),
              HasSubstr("pool.workers: takes a whole number, not a list"));
  EXPECT_THAT(why(R"({"sessions.mode": 1})"),
              HasSubstr("sessions.mode: takes one of strict_queue"));
  EXPECT_THAT(why(R"({"sessions.idle_ttl": ["5m"]})"),
              HasSubstr("sessions.idle_ttl: takes a duration such as \"200ms\", not a list"));
  EXPECT_THAT(why(R"({"calls.grace": {"a": 1}})"), HasSubstr("calls.grace: takes a duration"));
  EXPECT_EQ(store.revision(), 1u);
  EXPECT_EQ(why(R"({"pool.workers": "3", "pool.queue_delay_max": 0, "calls.retry_budget": 0.5})"),
            "taken");
  EXPECT_EQ(store.settings().pool.workers, 3u);
}

// Goal: a table is a table in the file and in JSON, and a text elsewhere; a layer replaces it
// whole.
TEST(ConfigStore, TakesTablesInTheFormOfEachSource) {
  const File file("[workers.env]\nA = \"1,2\"\n\"B\" = \"{slot}\"\n");
  ConfigStore store = loaded({.file = file.path()});
  EXPECT_EQ(store.settings().workers.env, (TextTable{{"A", "1,2"}, {"B", "{slot}"}}));
  EXPECT_EQ(store.provenance("workers.env").where, file.path() + ":1");
  const auto value = [&] { return json::parse(store.json())["values"]["workers.env"]["value"]; };
  EXPECT_EQ(value(), json({{"A", "1,2"}, {"B", "{slot}"}}));
  ASSERT_TRUE(store.patch(R"({"workers.env": {"C": "x,y\\z"}})", std::nullopt).has_value());
  EXPECT_EQ(store.settings().workers.env, (TextTable{{"C", "x,y\\z"}}));
  ASSERT_TRUE(store.patch(R"({"workers.env": "D=1"})", std::nullopt).has_value());
  EXPECT_EQ(value(), json({{"D", "1"}}));
  ASSERT_TRUE(store.patch(R"({"workers.env": {}})", std::nullopt).has_value());
  EXPECT_EQ(value(), json::object());
  ASSERT_TRUE(store.patch(R"({"workers.env": null})", std::nullopt).has_value());
  EXPECT_EQ(store.settings().workers.env.size(), 2U);
  store = loaded({.environment = {{"KEELBACK_WORKERS_ENV", "A=1"}},
                  .flags = {{"workers.env", "B=1,C=a\\,b", "--set"}}});
  EXPECT_EQ(store.settings().workers.env, (TextTable{{"B", "1"}, {"C", "a,b"}}));

  const auto why = [&](std::string_view patch) {
    const auto refused = store.patch(patch, std::nullopt);
    return refused ? std::string("taken") : sentences(refused.error().problems);
  };
  EXPECT_EQ(why(R"({"workers.env": {"A": 1}})"),
            "workers.env: takes a table of texts, and 'A' is none\n");
  EXPECT_EQ(why(R"({"workers.env": ["A=1"]})"),
            "workers.env: takes a table of texts, not a list\n");
  EXPECT_EQ(why(R"({"workers.env": {"A=B": "1"}})"),
            "workers.env: 'A=B' is no name of a variable\n");
  EXPECT_EQ(why(R"({"workers.devices": {"A": "1"}})"),
            "workers.devices: takes a list of texts, not a table\n");
  const auto read = read_config_text("[workers.env]\nA = 1\n", "k.toml");
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(sentences(read.error()),
            "k.toml:1:1: workers.env: takes a table of texts, and 'A' is none\n");
}

// Goal: no device is taken from the one that the operator gave the daemon, in whatever way the
// setting comes.
TEST(ConfigStore, RefusesDevicesWhereTheProcessHasTheVariable) {
  ASSERT_EQ(::getenv("CUDA_VISIBLE_DEVICES"), nullptr);
  ::setenv("CUDA_VISIBLE_DEVICES", "3", 1);
  const auto store = ConfigStore::load({.flags = {{"workers.devices", "0,1", "--set"}}});
  ConfigStore without = loaded({});
  const auto patched = without.patch(R"({"workers.devices": ["0"]})", std::nullopt);
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(sentences(store.error()),
            "--set: the environment of this process sets CUDA_VISIBLE_DEVICES already, and "
            "workers.devices would overwrite it: unset one of the two\n");
  EXPECT_FALSE(patched.has_value());
  EXPECT_TRUE(without.patch(R"({"workers.devices": ["0"]})", std::nullopt).has_value());
}

TEST(ConfigStore, RefusesAPatchOfARevisionThatIsGone) {
  ConfigStore store = loaded({});
  const std::string first = store.etag();
  ASSERT_TRUE(store.patch(R"({"pool.workers": 3})", first).has_value());
  const auto stale = store.patch(R"({"pool.workers": 4})", first);
  ASSERT_FALSE(stale.has_value());
  EXPECT_TRUE(stale.error().stale);
  EXPECT_EQ(store.settings().pool.workers, 3u);
  EXPECT_TRUE(store.patch(R"({"pool.workers": 4})", "*").has_value());
  EXPECT_NE(loaded({.flags = {{"pool.workers", "3", "--set"}}}).etag(), first)
      << "same revision, other values";
}

TEST(ConfigStore, TakesAKeyOutOfTheRuntimeLayerWithNull) {
  ConfigStore store = loaded({.flags = {{"pool.workers", "5", "--workers"}}});
  ASSERT_TRUE(store.patch(R"({"pool.workers": 7})", std::nullopt).has_value());
  EXPECT_EQ(store.settings().pool.workers, 7u);
  const auto back = store.patch(R"({"pool.workers": null})", std::nullopt);
  ASSERT_TRUE(back.has_value());
  EXPECT_THAT(back->keys, ElementsAre("pool.workers"));
  EXPECT_EQ(store.settings().pool.workers, 5u);
  EXPECT_EQ(store.provenance("pool.workers").where, "--workers");
}

TEST(ConfigStore, RefusesWhatIsNoFlatObject) {
  ConfigStore store = loaded({});
  for (const std::string_view text :
       {"", "{", "[]", "7", "null", "\"x\"", R"({"pool": {"workers": 3}})",
        R"({"pool.workers": 3, "pool.workers": 4})", "{\"pool.workers\": 3} x"}) {
    const auto refused = store.patch(text, std::nullopt);
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_FALSE(refused.error().problems.empty());
  }
  EXPECT_FALSE(store.patch("{\"pool.workers\": 3" + std::string(1 << 20, ' ') + "}", std::nullopt)
                   .has_value());
  EXPECT_FALSE(store.patch(std::string(500'000, '['), std::nullopt).has_value()) << "no recursion";
  EXPECT_EQ(store.revision(), 1u);
  EXPECT_TRUE(store.patch("{}", std::nullopt).has_value());
  EXPECT_EQ(store.revision(), 1u) << "nothing changed";
}

// Goal: SIGHUP changes what the file says and nothing else; a broken file changes nothing at all.
TEST(ConfigStore, ReadsTheFileAgainAndOnlyTheFile) {
  const File file("[sessions]\nidle_ttl = \"5m\"\n[calls]\ngrace = \"3s\"\n");
  ConfigStore store = loaded({.file = file.path(), .flags = {{"calls.retries", "2", "--set"}}});
  ASSERT_TRUE(store.patch(R"({"calls.grace": "4s"})", std::nullopt).has_value());

  file.write("[sessions]\nidle_ttl = \"6m\"\n[calls]\ngrace = \"5s\"\nretries = 9\n");
  const auto change = store.reload_file();
  ASSERT_TRUE(change.has_value()) << sentences(change.error());
  EXPECT_THAT(change->keys, ElementsAre("sessions.idle_ttl"));
  EXPECT_EQ(store.settings().calls.grace, 4s) << "the runtime layer is above";
  EXPECT_EQ(store.settings().calls.retries, 2u) << "so are flags";

  const Settings before = store.settings();
  file.write("[sessions]\nidle_ttl = \"7m\"\n[calls]\ndeadline = \"2h\"\n");
  EXPECT_FALSE(store.reload_file().has_value()) << "deadline over deadline_max";
  file.write("[sessions\n");
  EXPECT_FALSE(store.reload_file().has_value());
  EXPECT_EQ(store.settings(), before);

  file.write("");
  ASSERT_TRUE(store.reload_file().has_value());
  EXPECT_EQ(store.settings().sessions.idle_ttl, 30min) << "back to the default";
  EXPECT_EQ(store.settings().calls.grace, 4s);
}

TEST(ConfigStore, KeepsRestartKeysWhenTheFileChangesThemAndSaysSo) {
  const File file("pool.backend = \"sim\"\n");
  ConfigStore store = loaded({.file = file.path()});
  file.write("pool.backend = \"fake\"\nsessions.store = \"sqlite:/x\"\npool.workers = 3\n");
  const auto change = store.reload_file();
  ASSERT_TRUE(change.has_value());
  EXPECT_THAT(change->keys, ElementsAre("pool.workers"));
  EXPECT_THAT(change->pending, ElementsAre(HasSubstr("pool.backend has changed in"),
                                           HasSubstr("sessions.store has changed in")));
  EXPECT_EQ(store.settings().pool.backend, Backend::kSim);
  EXPECT_EQ(store.settings().sessions.store, "memory");
  file.write("pool.backend = \"sim\"\n");
  EXPECT_THAT(store.reload_file()->pending, IsEmpty()) << "compared with what is in force";
}

TEST(ConfigStore, RendersTheDocumentThatToolsRelyOn) {
  ConfigStore store = loaded({.environment = {{"KEELBACK_SERVER_TOKEN", "hunter2"}}});
  const std::string text = store.json();
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  const json document = json::parse(text);
  EXPECT_EQ(document["revision"], 1);
  const json& values = document["values"];
  EXPECT_EQ(values.size(), settings_schema().size());
  const json& ttl = values["sessions.idle_ttl"];
  EXPECT_EQ(ttl["value"], "30m");
  EXPECT_EQ(ttl["source"], "default");
  EXPECT_EQ(ttl["live"], true);
  EXPECT_EQ(ttl["scope"], "existing");
  EXPECT_FALSE(ttl["doc"].get<std::string>().empty());
  EXPECT_EQ(values["pool.workers"]["value"], 2);
  EXPECT_EQ(values["calls.retry_budget"]["value"], 0.2);
  EXPECT_EQ(values["server.listen"]["value"], json::array({"127.0.0.1:8080"}));
  EXPECT_EQ(values["server.listen"]["live"], false);
  EXPECT_EQ(values["server.token"]["value"], "set");
  EXPECT_EQ(values["server.token"]["default"], "not set");
  EXPECT_EQ(values["server.token"]["where"], "KEELBACK_SERVER_TOKEN");
}

TEST(ConfigStore, SplitsAssignmentsAndRepeatsNoSecret) {
  EXPECT_EQ(split_assignment("a.b=c=d")->value, "c=d");
  EXPECT_EQ(split_assignment("a.b=")->value, "");
  EXPECT_EQ(split_assignment("pool.workers").error(),
            "write pool.workers=VALUE, for example pool.workers=4");
  EXPECT_EQ(split_assignment("hunter2").error(), "write KEY=VALUE, for example pool.workers=4");
  EXPECT_FALSE(split_assignment("=x").has_value());
}

}  // namespace
}  // namespace keelback::api
