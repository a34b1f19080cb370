#include "host/providers.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>

namespace keelback::host {
namespace {

constexpr WorkerId kWorker{0, 1}, kOther{1, 2};
constexpr CallId kParent{7}, kBeside{8};

struct Recorder final : Provider {
  std::vector<std::string> heard;  // "asked 1", "cancelled 1"
  std::function<void()> while_asked;
  void asked(HostRequest request) override {
    heard.push_back("asked " + std::to_string(request.id));
    if (while_asked) while_asked();
  }
  void cancelled(std::uint64_t request) override {
    heard.push_back("cancelled " + std::to_string(request));
  }
};

struct ProvidersTest : testing::Test {
  Providers providers{4};
  std::shared_ptr<Recorder> first = std::make_shared<Recorder>();
  std::shared_ptr<Recorder> second = std::make_shared<Recorder>();

  // Tells at once. The request's id; 0: it was refused.
  std::uint64_t ask(const std::string& name, Providers::Asker asker) {
    auto news = providers.ask(asker, {.name = name});
    providers.check_invariants();
    if (!news) return 0;
    news->tell();
    return ++last;
  }
  std::uint64_t last = 0;
  void TearDown() override { providers.check_invariants(); }
};

TEST_F(ProvidersTest, ARequestIsAnsweredOnceAndItsAskerIsKnown) {
  providers.add({"lookup", "charge", "lookup"}, first);
  EXPECT_TRUE(providers.provides("charge"));
  const Providers::Asker ann{kWorker, kParent, 1};
  ASSERT_EQ(ask("lookup", ann), 1u);
  EXPECT_EQ(first->heard, std::vector<std::string>{"asked 1"});
  EXPECT_EQ(providers.take(1), ann);
  EXPECT_EQ(providers.take(1), std::nullopt) << "answered";
  EXPECT_EQ(providers.take(2), std::nullopt) << "never asked";
  EXPECT_EQ(providers.cancel(ann).has_value(), false) << "nothing of it is left to cancel";
  EXPECT_EQ(providers.open(), 0u);
}

TEST_F(ProvidersTest, OfSeveralTheOneWithTheFewestOpenRequestsIsAsked) {
  providers.add({"lookup"}, first);
  ASSERT_EQ(ask("lookup", {kWorker, kParent, 1}), 1u);
  providers.add({"lookup"}, second);
  ASSERT_EQ(ask("lookup", {kWorker, kParent, 2}), 2u);
  ASSERT_TRUE(providers.take(1));
  ASSERT_EQ(ask("lookup", {kWorker, kParent, 3}), 3u);
  EXPECT_EQ(first->heard, (std::vector<std::string>{"asked 1", "asked 3"}));
  EXPECT_EQ(second->heard, std::vector<std::string>{"asked 2"});
}

// Goal: providers that answer at once share the work, although none of them ever has a request
// open when the next one comes.
TEST_F(ProvidersTest, AmongEqualsTheOneThatWasAskedTheLongestAgoIsAsked) {
  providers.add({"lookup"}, first);
  providers.add({"lookup"}, second);
  for (std::uint64_t request = 1; request <= 4; ++request) {
    ASSERT_EQ(ask("lookup", {kWorker, kParent, request}), request);
    ASSERT_TRUE(providers.take(request));
  }
  EXPECT_EQ(first->heard, (std::vector<std::string>{"asked 1", "asked 3"}));
  EXPECT_EQ(second->heard, (std::vector<std::string>{"asked 2", "asked 4"}));
}

TEST_F(ProvidersTest, OneThatWithdrawsLeavesItsAskersAndHearsNoMore) {
  const ProviderId gone = providers.add({"lookup", "charge"}, first);
  providers.add({"charge"}, second);
  const Providers::Asker ann{kWorker, kParent, 1}, bob{kOther, kBeside, 1};
  ask("lookup", ann);
  ask("lookup", bob);
  std::vector<Providers::Asker> askers;
  EXPECT_EQ(providers.remove(gone, askers), first);
  EXPECT_EQ(askers, (std::vector{ann, bob}));
  EXPECT_EQ(providers.remove(gone, askers), nullptr) << "known no more";
  EXPECT_EQ(providers.take(1), std::nullopt) << "it answers late";
  EXPECT_FALSE(providers.provides("lookup"));
  EXPECT_TRUE(providers.provides("charge"));
  const auto refused = providers.ask(ann, {.name = "lookup"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), Providers::Refusal::kNobodyProvides);
  EXPECT_EQ(first->heard, (std::vector<std::string>{"asked 1", "asked 2"}));
}

TEST_F(ProvidersTest, CancellingEndsTheRequestsOfOneAskerOfACallOrOfAWorker) {
  providers.add({"lookup"}, first);
  const Providers::Asker one{kWorker, kParent, 1}, two{kWorker, kParent, 2},
      bob{kWorker, kBeside, 3}, other{kOther, CallId{9}, 1};
  for (const Providers::Asker& asker : {one, two, bob, other}) ask("lookup", asker);
  first->heard.clear();

  EXPECT_FALSE(providers.cancel({kWorker, kBeside, 1})) << "that number is another call's";
  auto cancelled = providers.cancel(two);
  ASSERT_TRUE(cancelled);
  cancelled->tell();
  std::vector<ProviderNews> news;
  EXPECT_EQ(providers.cancel_call(kParent, news), std::vector{one});
  EXPECT_EQ(providers.cancel_worker(kWorker, news), std::vector{bob});
  EXPECT_TRUE(providers.cancel_worker(kWorker, news).empty());
  for (ProviderNews& each : news) each.tell();
  EXPECT_EQ(first->heard, (std::vector<std::string>{"cancelled 2", "cancelled 1", "cancelled 3"}));
  EXPECT_EQ(providers.open(), 1u);
  EXPECT_EQ(providers.take(4), other);
}

TEST_F(ProvidersTest, NoMoreThanTheMaximumAreOpenAtOnce) {
  providers.add({"lookup"}, first);
  for (std::uint64_t request = 1; request <= 4; ++request) {
    ASSERT_EQ(ask("lookup", {kWorker, kParent, request}), request);
  }
  const auto refused = providers.ask({kWorker, kParent, 5}, {.name = "lookup"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), Providers::Refusal::kTooMany);
  ASSERT_TRUE(providers.take(2));
  EXPECT_EQ(ask("lookup", {kWorker, kParent, 5}), 5u);
}

// Goal: the thread that cancels may be faster than the one that asks. A provider never hears of the
// end of a request of which it knows nothing, and never misses the end of one that it knows.
TEST_F(ProvidersTest, AProviderHearsOfTheEndOnlyAfterItWasAsked) {
  providers.add({"lookup"}, first);
  const Providers::Asker ann{kWorker, kParent, 1}, bob{kWorker, kBeside, 2};

  auto asked = providers.ask(ann, {.name = "lookup"});
  auto cancelled = providers.cancel(ann);
  ASSERT_TRUE(asked && cancelled);
  cancelled->tell();
  asked->tell();
  EXPECT_TRUE(first->heard.empty()) << "cancelled before it was asked";

  auto again = providers.ask(bob, {.name = "lookup"});
  auto end = providers.cancel(bob);
  ASSERT_TRUE(again && end);
  first->while_asked = [&] {
    std::thread other([&] { end->tell(); });
    other.join();
    EXPECT_EQ(first->heard, std::vector<std::string>{"asked 2"}) << "asked() has not returned";
  };
  again->tell();
  EXPECT_EQ(first->heard, (std::vector<std::string>{"asked 2", "cancelled 2"}));
}

}  // namespace
}  // namespace keelback::host
