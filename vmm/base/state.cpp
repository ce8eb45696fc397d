// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/state.hpp"

#include <algorithm>

namespace inox {

Result<void> State::result() const {
    if (error_)
        return std::unexpected{*error_};
    return {};
}

unsigned State::version(unsigned current) {
    unsigned version = current;
    number("version", version, 1U, current);
    return version;
}

void State::signed_number(const char* name, std::int64_t& field) {
    if (!restores_) {
        value_[name] = field;
        return;
    }
    const auto* found = find(name);
    if (!found)
        return;
    if (!found->is_number_integer() ||
        (found->is_number_unsigned() && found->get<std::uint64_t>() > std::uint64_t{INT64_MAX}))
        return fault(name, "is no signed number");
    field = found->get<std::int64_t>();
}

void State::unsigned_field(const char* name, std::uint64_t& field, std::uint64_t least, std::uint64_t most) {
    if (!restores_) {
        value_[name] = field;
        return;
    }
    const auto* found = find(name);
    if (!found)
        return;
    if (!found->is_number_unsigned())
        return fault(name, "is no number");
    const auto value = found->get<std::uint64_t>();
    if (value < least || value > most)
        return fault(name,
                     "is " + std::to_string(value) + ", not " + std::to_string(least) + " to " + std::to_string(most));
    field = value;
}

void State::flag(const char* name, bool& field) {
    if (!restores_) {
        value_[name] = field;
        return;
    }
    const auto* found = find(name);
    if (!found)
        return;
    if (!found->is_boolean())
        return fault(name, "is neither true nor false");
    field = found->get<bool>();
}

void State::text(const char* name, std::string& field, std::size_t most_bytes) {
    if (!restores_) {
        value_[name] = field;
        return;
    }
    const auto* found = find(name);
    if (!found)
        return;
    if (!found->is_string() || found->get_ref<const std::string&>().size() > most_bytes)
        return fault(name, "is no text of at most " + std::to_string(most_bytes) + " bytes");
    field = found->get_ref<const std::string&>();
}

void State::bytes(const char* name, std::span<std::byte> field) {
    if (!restores_) {
        const auto* begin = reinterpret_cast<const std::uint8_t*>(field.data()); // NOLINT: what JSON's binary holds
        value_[name] = nlohmann::json::binary({begin, begin + field.size()});
        return;
    }
    const auto* found = find(name);
    if (!found)
        return;
    if (!found->is_binary() || found->get_binary().size() != field.size())
        return fault(name, "does not have " + std::to_string(field.size()) + " bytes");
    std::ranges::copy(std::as_bytes(std::span{found->get_binary()}), field.begin());
}

void State::bytes(const char* name, std::vector<std::byte>& field, std::size_t most_bytes) {
    if (restores_) {
        const auto* found = find(name);
        if (!found)
            return;
        if (!found->is_binary() || found->get_binary().size() > most_bytes)
            return fault(name, "does not have at most " + std::to_string(most_bytes) + " bytes");
        field.resize(found->get_binary().size());
    }
    bytes(name, std::span{field});
}

void State::check(bool condition, const char* what) {
    if (restores_ && !condition && ok())
        error_ = make_error(Errc::snapshot_invalid, "the snapshot's " + where_ + ": " + what);
}

const nlohmann::json* State::find(const char* name) {
    if (!ok())
        return nullptr;
    const auto found = value_.find(name);
    if (found != value_.end())
        return &*found;
    fault(name, "is missing");
    return nullptr;
}

State State::enter(const char* name) {
    if (!restores_)
        return {};
    const auto* found = find(name);
    if (found && !found->is_object())
        fault(name, "is no group of fields");
    return {ok() ? *found : nlohmann::json::object(), where_ + "/" + name};
}

void State::leave(const char* name, State& inner) {
    if (!restores_)
        value_[name] = inner.take();
    else if (inner.error_)
        error_ = std::move(inner.error_);
}

std::size_t State::begin_list(const char* name, std::size_t size, std::size_t most) {
    if (!restores_) {
        value_[name] = nlohmann::json::array();
        return size;
    }
    const auto* found = find(name);
    if (!found)
        return 0;
    if (!found->is_array() || found->size() > most) {
        fault(name, "is no list of at most " + std::to_string(most) + " elements");
        return 0;
    }
    return found->size();
}

State State::enter_element(const char* name, std::size_t index) {
    if (!restores_)
        return {};
    const auto& element = value_[name][index];
    if (!element.is_object())
        fault(name, "has an element that is no group of fields");
    return {ok() ? element : nlohmann::json::object(), where_ + "/" + name + "/" + std::to_string(index)};
}

void State::leave_element(const char* name, State& inner) {
    if (!restores_)
        value_[name].push_back(inner.take());
    else if (inner.error_)
        error_ = std::move(inner.error_);
}

void State::fault(const char* name, std::string what) {
    if (ok())
        error_ = make_error(Errc::snapshot_invalid, "the snapshot's " + where_ + "/" + name + " " + what);
}

} // namespace inox
