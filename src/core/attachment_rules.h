// What attachments must be to be sent at all; their sizes are CarriedBytes' affair.
#pragma once

#include <cstdint>
#include <string>

#include "keelback/attachment.h"

namespace keelback::core {

std::uint64_t bytes_of(const Attachments& attachments);
// Equal for attachments of the same names, dtypes and shapes, one after another, and no promise
// beyond that. 0: there are none.
std::uint64_t kinds_of(const Attachments& attachments);
// Why they cannot be sent, as a sentence; empty: they can.
std::string fault_of(const Attachments& attachments);

}  // namespace keelback::core
