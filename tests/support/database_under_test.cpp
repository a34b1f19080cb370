#include "support/database_under_test.h"

#include <boost/asio/post.hpp>
#include <map>

#include "postgres/database.h"
#include "support/model_database.h"

namespace keelback::test {
namespace {

class ModelUnderTest final : public DatabaseUnderTest {
 public:
  cluster::Database& client(int /*number*/) override { return client_; }
  void pass(std::chrono::seconds time) override { now_ += time; }
  boost::asio::io_context& loop() override { return loop_; }

 private:
  class Client final : public cluster::Database {
   public:
    explicit Client(ModelUnderTest& test) : test_(test) {}
    void ask(cluster::Request request, Duration /*patience*/, OnReply done) override {
      boost::asio::post(test_.loop_,
                        [this, request = std::move(request), done = std::move(done)]() mutable {
                          done(test_.model_.perform(test_.now_, request));
                        });
    }

   private:
    ModelUnderTest& test_;
  };

  boost::asio::io_context loop_;
  Time now_{};
  cluster::ModelDatabase model_;
  Client client_{*this};
};

class PostgresUnderTest final : public DatabaseUnderTest {
 public:
  PostgresUnderTest(Postgres& server, bool pooled) : server_(server), pooled_(pooled) {
    static int made = 0;
    name_ = "test" + std::to_string(++made);
    server_.create(name_);
  }
  cluster::Database& client(int number) override {
    auto& client = clients_[number];
    if (!client) {
      auto opened = postgres::PostgresDatabase::open(
          loop_, {.url = pooled_ ? server_.pooled_url(name_) : server_.url(name_)}, nullptr);
      EXPECT_TRUE(opened) << opened.error();
      client = *std::move(opened);
    }
    return *client;
  }
  void pass(std::chrono::seconds time) override {
    const std::string ago = " - interval '" + std::to_string(time.count()) + " seconds'";
    server_.query(name_, "UPDATE keelback.sessions SET opened_at = opened_at" + ago +
                             ", used_at = used_at" + ago);
    server_.query(name_, "UPDATE keelback.keys SET opened_at = opened_at" + ago);
    server_.query(name_, "UPDATE keelback.nodes SET retired_at = retired_at" + ago);
  }
  boost::asio::io_context& loop() override { return loop_; }

 private:
  Postgres& server_;
  const bool pooled_;
  std::string name_;
  boost::asio::io_context loop_;
  std::map<int, std::unique_ptr<cluster::Database>> clients_;
};

std::unique_ptr<Postgres> shared_server;

class ServerEnds final : public testing::Environment {
 public:
  void TearDown() override { shared_server.reset(); }
};
const auto* const server_ends = testing::AddGlobalTestEnvironment(new ServerEnds);

}  // namespace

Postgres* shared_postgres(std::string& missing) {
  static std::string why;
  if (!shared_server && why.empty()) shared_server = Postgres::start(why);
  missing = why;
  return shared_server.get();
}

std::unique_ptr<DatabaseUnderTest> make_database(const std::string& kind, std::string& missing) {
  if (kind == "model") return std::make_unique<ModelUnderTest>();
  Postgres* server = shared_postgres(missing);
  if (server == nullptr) return nullptr;
  return std::make_unique<PostgresUnderTest>(*server, kind == "pooled");
}

}  // namespace keelback::test
