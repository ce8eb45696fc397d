// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/state.hpp"

#include <array>

#include "tests/catch.hpp"

namespace inox::base_state_test {
namespace {

enum class Colour : std::uint8_t { red, green, blue };

struct Part {
    std::uint16_t count{7};
    bool on{true};
    Colour colour{Colour::green};
    std::int64_t offset{-3};
    std::string name{"a"};
    std::array<std::byte, 3> fifo{std::byte{1}, std::byte{2}, std::byte{3}};
    std::vector<std::byte> rest{std::byte{9}};
    std::vector<unsigned> list{4, 5};
    std::uint32_t deep{6};

    void state(State& state) {
        state.version(2);
        state.number("count", count, std::uint16_t{1}, std::uint16_t{10});
        state.flag("on", on);
        state.choice("colour", colour, Colour::blue);
        state.signed_number("offset", offset);
        state.text("name", name, 4);
        state.bytes("fifo", fifo);
        state.bytes("rest", rest, 2);
        state.list("list", list, 3, [](State& each, unsigned& value) { each.number("value", value); });
        state.part("inner", [&](State& inner) { inner.number("deep", deep); });
        state.check(count != 9, "nine is not possible");
    }
};

nlohmann::json saved() {
    State state;
    Part{}.state(state);
    return state.take();
}

/// The fault, or "".
std::string restore(const nlohmann::json& value, Part& part) {
    State state{value, "part"};
    part.state(state);
    const auto result = state.result();
    if (!result)
        CHECK(result.error().code == Errc::snapshot_invalid);
    return result ? "" : result.error().what;
}

} // namespace

TEST_CASE("what a part saves is what it restores") {
    Part part{.count = 1, .on = false, .colour = Colour::red, .offset = 1, .name = "", .fifo = {}, .rest = {}};
    part.list.clear();
    part.deep = 0;
    CHECK(restore(saved(), part).empty());
    CHECK(part.count == 7);
    CHECK(part.on);
    CHECK(part.colour == Colour::green);
    CHECK(part.offset == -3);
    CHECK(part.name == "a");
    CHECK(part.fifo[2] == std::byte{3});
    CHECK(part.rest.size() == 1);
    CHECK(part.list == std::vector<unsigned>{4, 5});
    CHECK(part.deep == 6);
    State again;
    part.state(again);
    CHECK(again.take() == saved());
}

TEST_CASE("a field that is missing, of another kind or out of range is named, and nothing after it is set") {
    const auto fault = [](const char* name, const nlohmann::json& value) {
        auto changed = saved();
        if (value.is_null())
            changed.erase(name);
        else
            changed[name] = value;
        Part part{};
        part.deep = 1;
        const auto what = restore(changed, part);
        CHECK(part.deep == 1);
        return what;
    };
    CHECK(fault("count", nullptr) == "the snapshot's part/count is missing");
    CHECK(fault("count", 0U) == "the snapshot's part/count is 0, not 1 to 10");
    CHECK(fault("count", 11U) == "the snapshot's part/count is 11, not 1 to 10");
    CHECK(fault("count", "x") == "the snapshot's part/count is no number");
    CHECK(fault("count", -1) == "the snapshot's part/count is no number");
    CHECK(fault("on", 1U) == "the snapshot's part/on is neither true nor false");
    CHECK(fault("colour", 3U) == "the snapshot's part/colour is 3, not 0 to 2");
    CHECK(fault("offset", UINT64_MAX) == "the snapshot's part/offset is no signed number");
    CHECK(fault("name", "abcde") == "the snapshot's part/name is no text of at most 4 bytes");
    CHECK(fault("fifo", nlohmann::json::binary({1, 2})) == "the snapshot's part/fifo does not have 3 bytes");
    CHECK(fault("rest", nlohmann::json::binary({1, 2, 3})) == "the snapshot's part/rest does not have at most 2 bytes");
    CHECK(fault("list", nlohmann::json::array({1, 2, 3, 4})) ==
          "the snapshot's part/list is no list of at most 3 elements");
    CHECK(fault("list", nlohmann::json::array({1U})) ==
          "the snapshot's part/list has an element that is no group of fields");
    CHECK(fault("inner", 1U) == "the snapshot's part/inner is no group of fields");
    CHECK(fault("version", 3U) == "the snapshot's part/version is 3, not 1 to 2");
    auto deep = saved();
    deep["inner"].erase("deep");
    Part part{};
    CHECK(restore(deep, part) == "the snapshot's part/inner/deep is missing");
    auto nine = saved();
    nine["count"] = 9U;
    CHECK(restore(nine, part) == "the snapshot's part: nine is not possible");
}

} // namespace inox::base_state_test
