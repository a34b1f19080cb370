// Hops over HTTP: HopClient as NodeDriver wants it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <string>

#include "nodes/hop_client.h"
#include "nodes/hops.h"

namespace keelback::nodes {

class HttpHops final : public Hops {
 public:
  HttpHops(boost::asio::io_context& loop, Sender sender) : client_(loop, std::move(sender)) {}

  std::uint64_t send(const std::string& url, const Call& call, host::OnItem item,
                     OnEnded ended) override;
  std::uint64_t end_session(const std::string& url, const std::string& session, Duration limit,
                            OnEnded ended) override;
  void grant(std::uint64_t hop, std::uint32_t items) override { client_.grant(hop, items); }
  void give_up(std::uint64_t hop) override { client_.give_up(hop, "the node was retired"); }
  void cancel(std::uint64_t hop) override { client_.cancel(hop); }

 private:
  HopClient client_;
};

}  // namespace keelback::nodes
