// SPDX-License-Identifier: Apache-2.0
// The one place that knows which Catch2 is installed.
#pragma once

#include <catch2/catch.hpp>

namespace inox {}
using namespace inox; // every test is a reader of the whole product
