#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/details/log_msg.h>

#include <fstream>
#include <sstream>

#include "cli/arguments.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/config_docs.h"
#include "cli/config_options.h"
#include "cli/doctor.h"
#include "cli/documented.h"
#include "cli/first_load.h"
#include "cli/logging.h"
#include "cli/output.h"
#include "cli/probe.h"

namespace keelback::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::StartsWith;

// ---- documentation

// Goal: what people read is what the program does: the page is the schema, word for word.
TEST(ConfigDocs, ThePageInTheTreeIsTheSchemas) {
  std::ifstream file(KEELBACK_SOURCE_DIR "/docs/configuration.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), configuration_markdown())
      << "run: keelback config docs > docs/configuration.md";
}

// Goal: every command and every exit code that the program has is on its page.
TEST(CommandDocs, ThePageNamesEveryCommandAndOption) {
  CLI::App app("", "keelback");
  Invocation invocation;
  for (const auto add :
       {add_serve, add_run, add_call, add_status, add_workers, add_sessions, add_config,
        add_control, add_cluster, add_quarantine, add_doctor, add_version}) {
    add(app, invocation);
  }
  expect_documented(app, KEELBACK_SOURCE_DIR "/docs/cli.md");
}

// ---- the command line

class CommandLine : public testing::Test {
 protected:
  CommandLine() {
    app_.require_subcommand(1);
    add_call(app_, invocation_);
    add_serve(app_, invocation_);
    add_status(app_, invocation_);
    add_sessions(app_, invocation_);
    add_config(app_, invocation_);
  }
  // What a wrong line says on stderr; its exit code must be 2.
  std::string complaint(std::vector<const char*> words) {
    words.insert(words.begin(), "keelback");
    testing::internal::CaptureStderr();
    const int code =
        run_command_line(app_, invocation_, static_cast<int>(words.size()), words.data());
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(code, kExitUsage) << text;
    return text;
  }

  CLI::App app_{"", "keelback"};
  Invocation invocation_;
};

TEST_F(CommandLine, SuggestsTheNearestCommandAndOption) {
  EXPECT_THAT(complaint({"stauts"}),
              HasSubstr("`keelback` has no command 'stauts'; did you mean status?"));
  EXPECT_THAT(complaint({"sessions", "lst"}),
              HasSubstr("`keelback sessions` has no command 'lst'; did you mean list?"));
  EXPECT_THAT(complaint({"call", "f", "--sesion", "s"}),
              HasSubstr("`keelback call` has no option '--sesion'; did you mean --session?"));
  EXPECT_THAT(complaint({"call", "f", "--deadlin=5s"}), HasSubstr("did you mean --deadline?"));
  EXPECT_THAT(complaint({"status", "now"}), HasSubstr("`keelback status` has no argument 'now'"));
  EXPECT_THAT(complaint({"xyzzy"}), Not(HasSubstr("did you mean")));
}

// Goal: whoever knows --port from other servers is told what to write here.
TEST_F(CommandLine, KnowsWhatPortMeans) {
  const auto hint = [](std::string_view port) {
    return HasSubstr(fmt::format("'--port'; write --listen 127.0.0.1:{}", port));
  };
  EXPECT_THAT(complaint({"serve", "app.py", "--port", "8123"}), hint("8123"));
  EXPECT_THAT(complaint({"serve", "--port=8123", "app.py"}), hint("8123"));
  EXPECT_THAT(complaint({"serve", "--port", "8123", "app.py"}), hint("8123"));
  EXPECT_THAT(complaint({"serve", "app.py", "--port"}), hint("8080"));
  EXPECT_THAT(complaint({"serve", "app.py", "-p", "8123"}),
              HasSubstr("'-p'; write --listen 127.0.0.1:8123"));
  EXPECT_THAT(complaint({"status", "--port", "1"}), Not(HasSubstr("--listen")));
}

// Goal: what a failed first load says has the reason, the last words, and what to do.
TEST(FirstLoad, SaysWhyAndWhatToDo) {
  const Death death{.cause = "start_failed",
                    .step = "hello",
                    .detail = "ModuleNotFoundError: No module named 'numpy' (/srv/app.py, line 3)",
                    .stderr_tail = "Traceback\n  File \"/srv/app.py\", line 3\n"};
  EXPECT_EQ(load_failure_text("app.py", death),
            "app.py cannot be loaded: a failed start (at hello): ModuleNotFoundError: No module "
            "named 'numpy' (/srv/app.py, line 3)\n"
            "Its last words:\n"
            "    Traceback\n"
            "      File \"/srv/app.py\", line 3\n"
            "Hint: install the module for the interpreter of workers.python, or put its directory "
            "into PYTHONPATH.\n"
            "With --wait-for-app the daemon keeps trying instead.");
  EXPECT_THAT(load_failure_text("app.py", {.cause = "start_failed", .detail = "odd"}),
              Not(HasSubstr("Hint")));
}

TEST_F(CommandLine, SaysWhatIsMissing) {
  EXPECT_THAT(complaint({"call"}), HasSubstr("FUNCTION is required"));
  EXPECT_THAT(complaint({"config"}), HasSubstr("subcommand is required"));
  EXPECT_THAT(complaint({"sessions", "--limit", "0"}), HasSubstr("--limit"));
}

TEST_F(CommandLine, TakesJsonArgumentsAsTheyAre) {
  // A JSON array is one argument, not a list of the parser's own.
  const char* words[] = {"keelback", "call", "f", R"([1,"a b",[2]])", "--url", "unix:/nowhere/k"};
  testing::internal::CaptureStderr();
  const int code = run_command_line(app_, invocation_, 6, words);
  EXPECT_EQ(code, kExitUnreachable);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("cannot reach the server at unix:/nowhere/k: No such file or directory"));
}

TEST_F(CommandLine, AnswersInJsonAlsoWhenTheLineIsWrong) {
  testing::internal::CaptureStdout();
  complaint({"stauts", "--json"});
  const Json json = Json::parse(testing::internal::GetCapturedStdout());
  EXPECT_EQ(json["error"]["kind"], "usage");
  EXPECT_EQ(json["error"]["exit"], 2);
}

TEST_F(CommandLine, ChecksSettingsBeforeItAsksAnybody) {
  EXPECT_THAT(complaint({"config", "set", "session.idle_ttl=5m", "--url", "unix:/nowhere"}),
              HasSubstr("unknown key 'session.idle_ttl'; did you mean sessions.idle_ttl?"));
  EXPECT_THAT(complaint({"config", "set", "pool.workers", "--url", "unix:/nowhere"}),
              HasSubstr("write pool.workers=VALUE"));
  EXPECT_THAT(complaint({"config", "get", "pool.worker"}), HasSubstr("did you mean pool.workers?"));
}

TEST(CallOptions, ReadsArgumentsAndRefusesWhatIsNoJson) {
  EXPECT_EQ((CallOptions{.function = "f"}.read()->payload), "[]");
  EXPECT_EQ((CallOptions{.function = "f", .json = R"({"a": 1})"}.read()->payload), R"({"a": 1})");
  EXPECT_THAT((CallOptions{.function = "f", .json = "{"}.read().error()),
              StartsWith("the arguments are not JSON: parse error at line 1, column 2"));
  EXPECT_THAT((CallOptions{.function = "f", .json = "@/nowhere"}.read().error()),
              HasSubstr("/nowhere: No such file"));
  EXPECT_EQ((CallOptions{.function = "f", .deadline = "250ms"}.read()->deadline),
            std::chrono::milliseconds(250));
  EXPECT_THAT((CallOptions{.function = "f", .deadline = "0"}.read().error()), HasSubstr("above 0"));
  EXPECT_THAT((CallOptions{.function = "f", .deadline = "5"}.read().error()), HasSubstr("unit"));
}

// ---- the client

TEST(Address, ReadsHostsPortsAndSockets) {
  const auto text = [](std::string_view from) {
    const auto address = parse_address(from);
    return address ? address->text() : "error: " + address.error();
  };
  EXPECT_EQ(text("127.0.0.1:8080"), "127.0.0.1:8080");
  EXPECT_EQ(text("http://localhost:1/"), "localhost:1");
  EXPECT_EQ(text("localhost"), "localhost:8080");
  EXPECT_EQ(text("[::1]:80"), "[::1]:80");
  EXPECT_EQ(text("[::1]"), "[::1]:8080");
  EXPECT_EQ(text("unix:/run/k.sock"), "unix:/run/k.sock");
  for (const std::string_view bad :
       {"", "https://a:1", "a:b", "unix:rel", "http://a:1/path", ":80"}) {
    EXPECT_THAT(text(bad), HasSubstr("error: ")) << bad;
  }
}

TEST(EventReader, PutsEventsTogetherFromBytesInAnyPieces) {
  const std::string bytes =
      ": a heartbeat\n\nevent: item\ndata: 1\n\nevent: item\r\ndata: a\r\ndata: b\r\n\r\ndata:x\n\n"
      "event: end\ndata: {}\n\nevent: item\ndata: late\n\n";
  for (std::size_t size = 1; size <= bytes.size(); ++size) {
    std::vector<std::pair<std::string, std::string>> events;
    const Client::OnEvent on_event = [&](std::string_view name, std::string_view data) {
      events.emplace_back(name, data);
      return name != "end";
    };
    EventReader reader(on_event);
    bool more = true;
    for (std::size_t at = 0; at < bytes.size() && more; at += size) {
      more = reader.feed(std::string_view(bytes).substr(at, size));
    }
    EXPECT_FALSE(more) << "the end ends it";
    EXPECT_THAT(events, ElementsAre(Pair("item", "1"), Pair("item", "a\nb"), Pair("message", "x"),
                                    Pair("end", "{}")))
        << "in pieces of " << size;
  }
}

TEST(PercentEncode, LeavesOnlyWhatNeedsNoEscape) {
  EXPECT_EQ(percent_encode("aZ9-_.~"), "aZ9-_.~");
  EXPECT_EQ(percent_encode("a/b c%é"), "a%2Fb%20c%25%C3%A9");
}

// ---- output

TEST(Table, AlignsNamesLeftAndNumbersRight) {
  Table table({"NAME", "COUNT", "STATE"});
  table.add({"é", "5", "ready"});
  table.add({"longer", "12345678", ""});
  EXPECT_EQ(table.text(),
            "NAME       COUNT  STATE\n"
            "é              5  ready\n"
            "longer  12345678\n");
}

TEST(Output, WritesQuantitiesForPeople) {
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(36909875), "35.2 MiB");
  EXPECT_EQ(human_seconds(0.44), "0.4s");
  EXPECT_EQ(human_seconds(200), "3m20s");
  EXPECT_EQ(human_seconds(90061), "1d1h");
}

TEST(Output, ShowsAProblemOnceAndHarmlessly) {
  const Json problem = {
      {"outcome", "error"},
      {"effect", "done"},
      {"worker", "0.3"},
      {"detail", "ValueError: bad\x1b[31m value"},
      {"python",
       {{"type", "ValueError"},
        {"message", "bad\x1b[31m value"},
        {"traceback", "Traceback (most recent call last):\nValueError: bad\x1b[31m value\n"}}}};
  EXPECT_EQ(problem_block("f", problem),
            "keelback: f: error, effect done, worker 0.3\n"
            "  Traceback (most recent call last):\n"
            "  ValueError: bad\\x1b[31m value\n");
  const Json misfit = {
      {"outcome", "bad_request"},
      {"effect", "none"},
      {"detail", "keelback.ValidationError: argument \"item\": wrong (and 1 more)"},
      {"python",
       {{"type", "keelback.ValidationError"},
        {"message", "argument \"item\": wrong (and 1 more)"},
        {"traceback", ""}}},
      {"errors",
       {{{"loc", {"item", "rows", 3, "price"}}, {"msg", "wrong"}, {"type", "float_type"}},
        {{"loc", {"n"}}, {"msg", "Field required\x1b"}, {"type", "missing"}}}}};
  EXPECT_EQ(problem_block("f", misfit),
            "keelback: f: bad_request, effect none\n"
            "  item.rows[3].price: wrong\n"
            "  n: Field required\\x1b\n");
  const Json died = {{"outcome", "worker_died"},
                     {"effect", "maybe"},
                     {"detail", "worker 0.1 died with the call"},
                     {"attempts", 2},
                     {"death",
                      {{"cause", "signal"},
                       {"signal", 9},
                       {"exit_code", nullptr},
                       {"oom_suspected", true},
                       {"stderr_tail", "last words\n"}}}};
  EXPECT_EQ(problem_block("f", died),
            "keelback: f: worker_died, effect maybe, 2 attempts\n"
            "  worker 0.1 died with the call\n"
            "  the worker died: signal 9, out of memory suspected\n"
            "  its last words:\n"
            "    last words\n");
  const Json not_started = {
      {"outcome", "not_ready"},
      {"effect", "none"},
      {"detail", "No worker is up: the last one ended with a failed start: there is no file a.py."},
      {"death",
       {{"cause", "start_failed"},
        {"detail", "there is no file a.py"},
        {"stderr_tail", "there is no file a.py\n"}}}};
  EXPECT_EQ(problem_block("f", not_started),
            "keelback: f: not_ready, effect none\n"
            "  No worker is up: the last one ended with a failed start: there is no file a.py.\n");
  EXPECT_THAT(problem_block("f", Json(7)), HasSubstr("keelback: f:")) << "any JSON will do";
}

TEST(Logging, WritesOneJsonObjectALine) {
  const auto time = spdlog::log_clock::time_point(std::chrono::milliseconds(1'700'000'000'123));
  const auto line = [&](std::string_view text) {
    return json_log_line(spdlog::details::log_msg(time, {}, "keelback", spdlog::level::warn,
                                                  spdlog::string_view_t(text.data(), text.size())));
  };
  EXPECT_EQ(line("a \"quoted\"\nline"),
            R"({"time":"2023-11-14T22:13:20.123Z","level":"warn","message":"a \"quoted\"\nline"})");
  EXPECT_EQ(
      line("[0.1] printed"),
      R"({"time":"2023-11-14T22:13:20.123Z","level":"warn","worker":"0.1","message":"printed"})");
  EXPECT_TRUE(Json::accept(line("\xff not UTF-8")));
}

// ---- the doctor

// Goal: nothing that a worker or a client writes rules the terminal, or looks like another line.
TEST(Logging, EscapesWhatIsNotPlainText) {
  const std::string_view said(
      "[0.1] red \x1b[31m cr \r nul \0 bell \a del \x7f c1 \xc2\x9b bad \xff half \xc3 "
      "long \xc0\x80 rtl \xe2\x80\xae ls \xe2\x80\xa8 tab \t umlaut \xc3\xa4 \xf0\x9f\x98\x80\n"
      "2026-01-01T00:00:00.000Z error forged",
      146);
  const spdlog::details::log_msg message("keelback", spdlog::level::info,
                                         {said.data(), said.size()});
  const std::string line = text_log_line(message);
  EXPECT_THAT(line,
              HasSubstr(" info [0.1] red \\x1b[31m cr \\x0d nul \\x00 bell \\x07 del \\x7f c1 "
                        "\\u009b bad \\xff half \\xc3 long \\xc0\\x80 rtl \\u202e ls \\u2028 tab "
                        "\t umlaut \xc3\xa4 \xf0\x9f\x98\x80\n    2026-01-01T"))
      << line;
}

// Goal: what goes wrong before there is a log is JSON where the log would be.
TEST_F(CommandLine, ComplainsInTheLogsFormat) {
  const auto is_json_line = [](const std::string& text) {
    return text.ends_with("\n") && text.find('\n') == text.size() - 1 && Json::accept(text);
  };
  EXPECT_TRUE(is_json_line(complaint({"serve", "app.py", "--bogus", "--set", "log.format=json"})));
  EXPECT_FALSE(is_json_line(complaint({"serve", "app.py", "--bogus"})));
  for (const char* wrong : {"pool.workers=x", "no.such=1"}) {
    const std::string text =
        complaint({"serve", "app.py", "--set", wrong, "--set", "log.format=json"});
    EXPECT_TRUE(is_json_line(text)) << text;
    EXPECT_THAT(text, HasSubstr("\"level\":\"error\""));
  }
}

TEST(Doctor, ReadsKernelReleases) {
  EXPECT_TRUE(kernel_at_least("5.10", 5, 10));
  EXPECT_TRUE(kernel_at_least("5.10.0-1-amd64", 5, 10));
  EXPECT_TRUE(kernel_at_least("6.1.0", 5, 10));
  EXPECT_FALSE(kernel_at_least("5.9.16", 5, 10));
  EXPECT_FALSE(kernel_at_least("4.19", 5, 10));
  EXPECT_FALSE(kernel_at_least("weird", 5, 10));
  EXPECT_FALSE(kernel_at_least("6", 5, 10));
}

TEST(Doctor, TellsWhatBecameOfTheGilWhileAnApplicationWasImported) {
  const Check off = gil_check("app.py", R"({"can_be_off":true,"on":false,"error":""})");
  EXPECT_EQ(off.finding, Finding::kOk);
  EXPECT_EQ(off.found, "off, also after the import of app.py");

  const Check on = gil_check(
      "app.py",
      R"({"on":true,"error":"","module":"old._core","file":"/x/_core.so","imported_by":"helper (/y/helper.py:3), imported by app"})");
  EXPECT_EQ(on.finding, Finding::kWarn);
  EXPECT_EQ(on.found,
            "on: old._core (/x/_core.so) turns it on. It is imported by helper (/y/helper.py:3), "
            "imported by app");
  EXPECT_THAT(on.advice, HasSubstr("a version of old that"));

  EXPECT_EQ(gil_check("app.py", R"({"on":true,"error":""})").found,
            "on after the import of app.py");
  const Check broken = gil_check("app.py", R"({"on":false,"error":"ImportError: no"})");
  EXPECT_EQ(broken.finding, Finding::kWarn);
  EXPECT_EQ(broken.found, "app.py cannot be imported: ImportError: no");
  EXPECT_EQ(gil_check("app.py", "no JSON").finding, Finding::kWarn);
}

TEST(Probe, RunsAProgramWithinItsTimeAndSaysHowItEnded) {
  using std::chrono_literals::operator""ms;
  const auto said = run_program({"sh", "-c", "echo out; echo err >&2; exit 3"}, 10'000ms);
  ASSERT_TRUE(said.has_value()) << said.error();
  EXPECT_EQ(said->status, 3);
  EXPECT_EQ(said->out, "out\n");
  EXPECT_EQ(said->err, "err\n");
  EXPECT_EQ(run_program({"sh", "-c", "kill -9 $$"}, 10'000ms)->status, 137);
  EXPECT_THAT(run_program({"/nowhere/program"}, 100ms).error(), HasSubstr("cannot be started"));
  EXPECT_THAT(run_program({"sleep", "1000"}, 50ms).error(), HasSubstr("did not end within 50 ms"));
}

}  // namespace
}  // namespace keelback::cli
