#include "server/views.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace keelback::server {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

// Goal: the field names that tools rely on, exactly, and a sum that holds within one reply.
TEST(Views, PoolHasTheContractsFields) {
  host::PoolInfo info;
  info.stats.ready = false;
  info.stats.reasons = {"no worker is up"};
  info.stats.workers = {.starting = 1, .ready = 2, .busy = 3, .suspect = 4, .draining = 5};
  info.stats.scaling = {.wanted = 12, .why = "calls waited"};
  info.stats.queue_depth = 6;
  info.stats.queue_delay = 1500us;
  info.stats.accepted = 30;
  info.stats.in_flight = 7;
  info.stats.outcomes[static_cast<int>(OutcomeKind::kOk)] = 20;
  info.stats.outcomes[static_cast<int>(OutcomeKind::kWorkerDied)] = 3;
  info.stats.sessions.active = 8;
  info.stats.restarts = 9;
  info.stats.quarantined = 10;
  info.start = {.mode = "exec", .state = "fallback", .reason = "apps.metrics started a thread"};
  const json pool = json::parse(pool_json(info, {"the disk is full"}, 11));
  EXPECT_EQ(pool["ready"], false);
  EXPECT_EQ(pool["reasons"], json::array({"no worker is up"}));
  EXPECT_EQ(pool["degraded"], json::array({"the disk is full"}));
  EXPECT_EQ(pool["workers"],
            (json{{"starting", 1}, {"ready", 2}, {"busy", 3}, {"suspect", 4}, {"draining", 5}}));
  EXPECT_EQ(pool["queue"], (json{{"depth", 6}, {"delay_ms", 1.5}}));
  EXPECT_EQ(pool["scaling"], (json{{"wanted", 12}, {"why", "calls waited"}}));
  EXPECT_EQ(pool["restarts"], 9);
  EXPECT_EQ(pool["quarantined"], 10);
  EXPECT_EQ(pool["http_rejected"], 11);
  EXPECT_EQ(pool["start"]["reason"], "apps.metrics started a thread");
  for (const char* field : {"active", "opened", "expired", "lost", "restored"}) {
    EXPECT_TRUE(pool["sessions"].contains(field)) << field;
  }
  std::uint64_t sum = pool["calls"]["in_flight"].get<std::uint64_t>();
  for (int i = 0; i < kOutcomeKinds; ++i) {
    sum +=
        pool["calls"].at(std::string(to_string(static_cast<OutcomeKind>(i)))).get<std::uint64_t>();
  }
  EXPECT_EQ(sum, pool["calls"]["accepted"]);
}

// Goal: the fields that tools rely on; an incarnation is text, because JSON's numbers lose digits.
TEST(Views, ClusterHasTheContractsFields) {
  host::ClusterInfo info;
  info.node = "a";
  info.incarnation = 0xfedc'ba98'7654'3210;
  info.phase = "member";
  info.trouble = "no route to host";
  info.serves_sessions = true;
  info.sessions = 3;
  info.weaknesses = {"fsync is off."};
  info.nodes = {{.name = "a", .url = "http://a", .incarnation = info.incarnation},
                {.name = "b",
                 .url = "http://b",
                 .incarnation = 1,
                 .draining = true,
                 .retired = true,
                 .digest = "d",
                 .schema = 2}};
  info.counters = {.claims = 1, .taken_over = 2, .went_back = 13};
  const json cluster = json::parse(cluster_json(info));
  EXPECT_EQ(cluster["node"], "a");
  EXPECT_EQ(cluster["incarnation"], "fedcba9876543210");
  EXPECT_EQ(cluster["phase"], "member");
  EXPECT_EQ(cluster["draining"], false);
  EXPECT_EQ(cluster["trouble"], "no route to host");
  EXPECT_EQ(cluster["serves_sessions"], true);
  EXPECT_EQ(cluster["sessions"], 3);
  EXPECT_EQ(cluster["database"],
            (json{{"up", false}, {"weaknesses", json::array({"fsync is off."})}}));
  ASSERT_EQ(cluster["nodes"].size(), 2U);
  EXPECT_EQ(cluster["nodes"][0]["self"], true);
  EXPECT_EQ(cluster["nodes"][1], (json{{"name", "b"},
                                       {"url", "http://b"},
                                       {"incarnation", "0000000000000001"},
                                       {"self", false},
                                       {"draining", true},
                                       {"retired", true},
                                       {"digest", "d"},
                                       {"schema", 2}}));
  EXPECT_EQ(cluster["counters"].size(), 13U);
  EXPECT_EQ(cluster["counters"]["taken_over"], 2);
  EXPECT_EQ(cluster["counters"]["went_back"], 13);
}

// Goal: whatever does not work while calls are served is said, and only that.
TEST(Views, DegradedSaysWhatDoesNotWork) {
  host::PoolInfo pool;
  pool.store.up = true;
  std::optional<host::ClusterInfo> cluster;
  EXPECT_TRUE(degraded_reasons(pool, cluster).empty());
  cluster.emplace();
  cluster->phase = "member";
  cluster->database_up = true;
  cluster->serves_sessions = true;
  EXPECT_TRUE(degraded_reasons(pool, cluster).empty());

  const auto only = [&] {
    const auto reasons = degraded_reasons(pool, cluster);
    EXPECT_EQ(reasons.size(), 1U);
    return reasons.empty() ? std::string() : reasons[0];
  };
  cluster->serves_sessions = false;
  EXPECT_THAT(only(), HasSubstr("wait until the database has this node's next beat"));
  cluster->database_up = false;
  cluster->trouble = "no route to host";
  EXPECT_THAT(only(), HasSubstr("calls of sessions wait: no route to host"));
  cluster->serves_sessions = true;
  EXPECT_THAT(only(), HasSubstr("go on only until the lease ends: no route to host"));
  cluster->phase = "displaced";
  cluster->database_up = true;
  cluster->trouble = "another has the name";
  EXPECT_THAT(only(), HasSubstr("not a member of the cluster"));
  EXPECT_THAT(only(), HasSubstr("another has the name"));
  for (const char* phase : {"leaving", "left"}) {  // as it was told
    cluster->phase = phase;
    EXPECT_TRUE(degraded_reasons(pool, cluster).empty()) << phase;
  }
  cluster->phase = "member";
  cluster->weaknesses = {"fsync is off."};
  EXPECT_THAT(only(), HasSubstr("may lose what it acknowledged: fsync is off."));
  pool.store.up = false;
  pool.stats.failing = "1 of 2 workers serve";
  EXPECT_EQ(degraded_reasons(pool, cluster).size(), 3U);
}

TEST(Views, WorkersSessionsAndQuarantine) {
  host::WorkerInfo worker;
  worker.worker = {2, 17};
  worker.state = core::WorkerState::kBusy;
  worker.age = 2500ms;
  worker.function = "greet";
  worker.running = {{.call = CallId{7}, .function = "greet"},
                    {.call = CallId{8}, .function = "price", .parent = CallId{7}}};
  const json workers = json::parse(workers_json({worker, {}}));
  ASSERT_EQ(workers.size(), 2U);
  for (const char* field :
       {"slot", "generation", "pid", "state", "calls", "sessions", "rss_bytes", "age_s"}) {
    EXPECT_TRUE(workers[0].contains(field)) << field;
  }
  EXPECT_EQ(workers[0]["state"], "busy");
  EXPECT_EQ(workers[0]["age_s"], 2.5);
  EXPECT_EQ(workers[0]["function"], "greet");
  EXPECT_FALSE(workers[0]["running_calls"][0].contains("parent"));
  EXPECT_EQ(workers[0]["running_calls"][1]["parent"], 7);
  EXPECT_FALSE(workers[1].contains("function"));

  SessionList page;
  page.total = 3;
  page.items.push_back(
      {.id = "a\xFF", .worker = {1, 4}, .birth = 0xab, .epoch = 2, .state = "idle"});
  page.next = "a";
  const json sessions = json::parse(sessions_json(page, "a"));
  EXPECT_EQ(sessions["node"], "a");
  EXPECT_FALSE(json::parse(sessions_json(page, "")).contains("node"));
  EXPECT_EQ(sessions["total"], 3);
  EXPECT_EQ(sessions["next"], "a");
  const json& item = sessions["items"][0];
  EXPECT_EQ(item["birth"], "00000000000000ab");
  for (const char* field : {"id", "slot", "generation", "epoch", "idle_s", "age_s", "state"}) {
    EXPECT_TRUE(item.contains(field)) << field;
  }
  const json held = json::parse(quarantine_json({{.fingerprint = 0xf00, .deaths = 2}}, 1));
  EXPECT_EQ(held["total"], 1);
  EXPECT_EQ(held["items"][0]["fingerprint"], "0000000000000f00");
}

constexpr const char* kHello = R"({"runtime":"python 3.11","pid":1,"app":"counter","functions":[
  {"name":"greet","doc":"Says hello.","stream":false,"params":[
    {"name":"name","kind":"positional_or_keyword","required":true,"type":"str","schema":{"type":"string"}},
    {"name":"times","kind":"keyword_only","required":false,"type":"int","schema":{"type":"integer"}},
    {"name":"rest","kind":"var_keyword","required":false,"type":""}]},
  {"name":"a/b","stream":true,"result":{"$ref":"#/$defs/Problem"},"params":[
    {"name":"x","kind":"positional_only","required":true,"type":"Item","schema":{"$ref":"#/$defs/Item"}}]},
  {"name":"show","params":[
    {"name":"image","kind":"positional_or_keyword","required":true,"type":"bytes","schema":{"type":"string","format":"binary"}},
    {"name":"mask","kind":"positional_or_keyword","required":false,"type":"Optional[bytes]",
     "schema":{"anyOf":[{"type":"string","format":"binary"},{"type":"null"}]}},
    {"name":"size","kind":"positional_or_keyword","required":true,"type":"unchecked"}]}],
  "$defs":{"Item":{"type":"object","properties":{"parts":{"type":"array","items":{"$ref":"#/$defs/Item"}}}},
           "Pet":{"discriminator":{"propertyName":"kind","mapping":{"item":"#/$defs/Item"}},
                  "oneOf":[{"$ref":"#/$defs/Item"}]},
           "Problem":{"enum":["a","#/$defs/Item"]}}})";

// Goal: the document describes this application's arguments, in the two ways they can be given.
TEST(Views, OpenApiComesFromTheHello) {
  const Application application = *parse_application(kHello);
  const json document = json::parse(openapi_json(&application));
  EXPECT_EQ(document["openapi"], "3.1.0");
  EXPECT_EQ(document["info"]["title"], "counter");
  const json& greet = document["paths"]["/v1/call/greet"]["post"];
  EXPECT_EQ(greet["description"], "Says hello.");
  const json& forms = greet["requestBody"]["content"]["application/json"]["schema"]["oneOf"];
  ASSERT_EQ(forms.size(), 2U);
  EXPECT_EQ(forms[0]["properties"]["name"]["type"], "string");
  EXPECT_EQ(forms[0]["properties"]["times"]["type"], "integer");
  EXPECT_EQ(forms[0]["required"], json::array({"name"}));
  EXPECT_EQ(forms[0]["additionalProperties"], json::object());
  EXPECT_EQ(forms[1]["minItems"], 1);
  EXPECT_EQ(forms[1]["prefixItems"].size(), 1U);
  bool told = false;  // bodies that are not JSON are promised, and need a header
  for (const json& header : greet["parameters"]) {
    told = told || header.value("description", "").find("else 415") != std::string::npos;
  }
  EXPECT_TRUE(told);
  const auto names_parent = [](const json& header) { return header["name"] == "Keelback-Parent"; };
  EXPECT_TRUE(std::ranges::any_of(greet["parameters"], names_parent));
  const json& by_position = document["paths"]["/v1/call/a%2Fb"]["post"]["requestBody"]["content"]
                                    ["application/json"]["schema"];
  EXPECT_EQ(by_position["type"], "array") << "a required positional-only argument has no name";
  EXPECT_EQ(by_position["prefixItems"][0]["$ref"], "#/components/schemas/Item");
  const json& types = document["components"]["schemas"];
  EXPECT_EQ(types["Item"]["properties"]["parts"]["items"]["$ref"], "#/components/schemas/Item");
  EXPECT_EQ(types["Problem"]["type"], "object") << "ours";
  EXPECT_EQ(types["Application.Problem"]["enum"][0], "a") << "the application's";
  EXPECT_EQ(types["Application.Problem"]["enum"][1], "#/$defs/Item") << "a value, no reference";
  EXPECT_EQ(types["Pet"]["discriminator"]["mapping"]["item"], "#/components/schemas/Item");
  EXPECT_EQ(types["Pet"]["oneOf"][0]["$ref"], "#/components/schemas/Item");
  const json& streamed = document["paths"]["/v1/call/a%2Fb"]["post"]["responses"]["200"]["content"]
                                 ["application/json"]["schema"];
  EXPECT_EQ(streamed["items"]["$ref"], "#/components/schemas/Application.Problem");
  const json& show = document["paths"]["/v1/call/show"]["post"]["requestBody"]["content"]
                             ["application/json"]["schema"];
  EXPECT_EQ(show["required"], json::array({"size"})) << "attachments come beside the JSON";
  EXPECT_EQ(show["properties"], json({{"size", json::object()}}))
      << "the text of a type says nothing";
  for (const char* path :
       {"/v1/pool", "/v1/config", "/v1/sessions/{id}", "/v1/workers/{slot}/recycle", "/metrics"}) {
    EXPECT_TRUE(document["paths"].contains(path)) << path;
  }
  EXPECT_EQ(document["paths"]["/v1/sessions/{id}"]["delete"]["parameters"][0]["in"], "path");
  const json& refused = document["paths"]["/v1/config"]["patch"]["responses"]["4XX"]["content"]
                                ["application/problem+json"]["schema"]["properties"];
  EXPECT_EQ(refused["errors"]["items"]["required"], json::array({"key", "why"}));
  EXPECT_FALSE(document["paths"]["/v1/config"]["get"].contains("requestBody"));
  const json& provide = document["paths"]["/v1/providers"]["get"];
  EXPECT_EQ(provide["parameters"][0]["name"], "names");
  EXPECT_TRUE(provide["responses"]["200"]["content"].contains("text/event-stream"));
  const json& answer = document["paths"]["/v1/providers/{id}"]["post"];
  EXPECT_TRUE(answer["requestBody"]["content"].contains("application/problem+json"));
  EXPECT_TRUE(answer["responses"].contains("204"));
  EXPECT_TRUE(answer["responses"].contains("409"));
  EXPECT_EQ(answer["parameters"][0]["name"], "id");
  ASSERT_EQ(document["security"].size(), 2U);
  EXPECT_EQ(document["security"][1]["bearer"], json::array());
  EXPECT_TRUE(json::parse(openapi_json(nullptr))["paths"].contains("/livez"));
}

// Goal: /v1/functions says of each function what its HELLO said, under the same names.
TEST(Views, FunctionsAreShownAsTheHelloHasThem) {
  const char* const greet =
      R"({"name":"greet","doc":"d","idempotent":true,"stream":false,"async":true,"timeout":1.5,
          "max_workers":2,"concurrency":8,"batch":0,"batch_wait":0.0,"interruptible":true,"params":[
            {"name":"a","kind":"keyword_only","required":true,"type":"int","schema":{"type":"integer"}},
            {"name":"b","kind":"var_keyword","required":false,"type":null}],
          "result":{"$ref":"#/$defs/Item"}})";
  const std::string hello = fmt::format(
      R"({{"app":"counter","runtime":"python 3.11","functions":[{},{{"name":"plain"}}],
           "$defs":{{"Item":{{"enum":[1]}}}}}})",
      greet);
  const json shown = json::parse(functions_json(*parse_application(hello), {}));
  EXPECT_EQ(shown["app"], "counter");
  EXPECT_EQ(shown["runtime"], "python 3.11");
  ASSERT_EQ(shown["functions"].size(), 2U);
  EXPECT_EQ(shown["functions"][0], json::parse(greet));
  EXPECT_EQ(shown["$defs"]["Item"]["enum"], json::array({1})) << "references are right here, too";
  EXPECT_EQ(shown["functions"][1]["timeout"], nullptr);
  EXPECT_FALSE(shown["functions"][1].contains("result"));
  EXPECT_EQ(shown["functions"][1]["params"], json::array());
}

// Goal: of a function that takes batches it says how large they were on average, once there is one.
TEST(Views, FunctionsShowTheMeanOfTheirBatches) {
  const std::string hello =
      R"({"functions":[{"name":"f","batch":32,"batch_wait":0.004},{"name":"g","batch":2}]})";
  PoolStats stats;
  stats.batches.push_back({"f", {}});
  for (const std::uint32_t size : {1U, 2U, 6U}) stats.batches[0].sizes.add(size);
  const json shown = json::parse(functions_json(*parse_application(hello), stats))["functions"];
  EXPECT_EQ(shown[0]["batch"], 32);
  EXPECT_EQ(shown[0]["batch_wait"], 0.004);
  EXPECT_EQ(shown[0]["batch_mean"], 3.0);
  EXPECT_EQ(shown[1]["batch_mean"], nullptr);
}

}  // namespace
}  // namespace keelback::server
