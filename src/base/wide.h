// 128 bits: the whole product of two 64-bit numbers.
#pragma once

namespace keelback {

__extension__ typedef unsigned __int128 Wide;  // GNU extension, both compilers have it

}  // namespace keelback
