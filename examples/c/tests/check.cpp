// everlink.hpp: owners, exceptions, callbacks.
#include <cassert>
#include <atomic>
#include <memory>
#include <thread>

#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "everlink.hpp"

using namespace std::chrono_literals;
using everlink::client;
using everlink::connection;
using everlink::message_view;

static std::string url(const everlink::server &server) {
    return "ws://127.0.0.1:" + std::to_string(server.port());
}

static void echo_all(connection &session) {
    everlink::message message;
    while (session.receive(std::nothrow, message) == EVERLINK_CODE_OK)
        session.send(std::nothrow, message, message.is_text() ? everlink::options() : everlink::options().binary());
}

int main() {
    everlink::server server;
    server.set("max_connections", "100").bind("127.0.0.1:0", echo_all);

    { // receiving and owners
        client one(url(server));
        one.connect();
        client moved = std::move(one);
        moved.send("text");
        everlink::message message = moved.receive();
        CHECK(message.view() == "text" && message.is_text());
        everlink::message other = std::move(message);
        CHECK(other.view() == "text");
        moved.send("\1\2", everlink::options().binary().ttl(5s));
        CHECK(!moved.receive().is_text());
        moved.send_confirmed("confirmed").wait(30s);
        CHECK(moved.receive(30s)->view() == "confirmed");
        CHECK(!moved.receive(0ms) && !moved.receive(1ms));
        CHECK(moved.ping(30s).count() > 0 && moved.is_connected() && moved.readable_fd() >= 0);
        CHECK(moved.status().find("connected") != std::string::npos);
        moved.close();
        CHECK(moved.send(std::nothrow, "x") == EVERLINK_CODE_CLOSED);
        try {
            moved.send("x");
            abort();
        } catch (const everlink::error &error) {
            CHECK(error.code() == EVERLINK_CODE_CLOSED && std::string(error.what()) == "closed");
        }
    }
    { // callbacks keep what they have captured, and let go of it at the end
        auto captured = std::make_shared<std::atomic<int>>(0);
        client it(url(server));
        it.on_message([captured](connection &, message_view message) {
            CHECK(message.view() == "x");
            ++*captured;
        });
        it.on_event([captured](connection &, const everlink_event &event) { CHECK(event.text && event.json); });
        it.on_login([captured](everlink::login &login) {
            login.send("mine");
            CHECK(login.receive_matching([](message_view m) { return m.view() == "mine"; }).is_text());
        });
        it.connect();
        CHECK(captured.use_count() == 4);
        it.send("x");
        while (*captured == 0) std::this_thread::sleep_for(1ms);
        it.close();
        CHECK(captured.use_count() == 1);
    }
    { // what a callback throws ends the client, with its reason
        client it(url(server));
        std::string cause;
        std::atomic<bool> gave_up = false;
        it.on_message([](connection &, message_view) { throw std::runtime_error("not mine"); });
        it.on_event([&](connection &, const everlink_event &event) {
            if (event.kind == EVERLINK_EVENT_KIND_GAVE_UP) cause = event.text, gave_up = true;
        });
        it.connect().send("x");
        while (!gave_up) std::this_thread::sleep_for(1ms);
        CHECK(cause.find("not mine") != std::string::npos);
    }
    { // and what a login throws fails the attempt
        client it(url(server));
        it.on_login([](everlink::login &) { throw std::runtime_error("no password"); });
        try {
            it.connect();
            abort();
        } catch (const everlink::error &error) {
            CHECK(error.code() == EVERLINK_CODE_CONNECT);
            CHECK(std::string(error.what()).find("no password") != std::string::npos);
        }
    }
    { // the close code that a login has met is there for the decision
        everlink::server strict;
        strict.bind("127.0.0.1:0", [](connection &session) {
            session.receive();
            session.close(4009, "wrong password");
        });
        client it(url(strict));
        std::atomic<int> code = 0;
        it.on_login([](everlink::login &login) {
            login.send("secret");
            login.receive();
        });
        it.on_decision([&](const everlink_failure &failure, everlink_decision &decision) {
            code = failure.close_code;
            decision.give_up = failure.close_code == 4009;
        });
        it.start();
        everlink::message none;
        CHECK(it.receive(std::nothrow, none) == EVERLINK_CODE_GAVE_UP);
        CHECK(code == 4009 && std::string(everlink_last_error()).find("wrong password") != std::string::npos);
    }
    { // decisions, requests, what was dropped
        client it("ws://127.0.0.1:1");
        int asked = 0, requested = 0, dropped = 0;
        it.set("outbox.messages", "1").set("outbox.overflow", "drop_oldest");
        it.on_decision([&](const everlink_failure &failure, everlink_decision &decision) {
            CHECK(std::string(failure.kind) == "connect");
            decision.give_up = ++asked > 2;
            decision.has_delay = 1;
        });
        it.on_request([&](everlink::request &request) {
            ++requested;
            request.set_header("X-Attempt", std::to_string(request.attempt()));
        });
        it.on_dropped([&](message_view message, std::string_view why) {
            CHECK(message.view() == "old" && !why.empty());
            ++dropped;
        });
        it.set("backoff.fixed", "1ms").start();
        it.send("old");
        it.send("new");
        everlink::message none;
        CHECK(it.receive(std::nothrow, none) == EVERLINK_CODE_GAVE_UP);
        CHECK(it.close() == std::vector<std::string>{"new"});
        CHECK(asked == 3 && requested == 3 && dropped == 1);
    }
    { // requests, topics and a socket that listens already
        everlink::server other;
        other.set_json(R"({"limits": {"message": 4096}})").on_request([](everlink::incoming incoming) {
            if (incoming.header("x-none")) throw std::runtime_error("none");
            return incoming.path() == "/in?1" ? 101 : 404;
        });
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(listen(listener, 8) == 0);
        other.serve(listener, [](connection &session) {
            session.join("all");
            while (auto message = session.receive(30s)) session.send(std::string(message->view()));
        });
        close(listener);
        client it(url(other) + "/in?1");
        it.connect().send("x", everlink::options().timeout(0ms).ttl(30s));
        CHECK(it.receive().view() == "x" && other.members("all") == 1 && other.publish("all", "y") == 1);
        CHECK(it.receive().view() == "y" && other.stats().find("sessions") != std::string::npos);
        try {
            client(url(other) + "/out").connect();
            abort();
        } catch (const everlink::error &error) {
            CHECK(std::string(error.what()).find("404") != std::string::npos);
        }
    }
    { // an outbox that is never read and a session whose handler throws
        everlink::server other;
        other.bind("127.0.0.1:0", [](connection &session) {
            session.receive();
            throw std::runtime_error("the handler's");
        });
        client it(url(other));
        it.set("max_attempts", "1").connect().send("x");
        everlink::message none;
        CHECK(it.receive(std::nothrow, none, 30s) != EVERLINK_CODE_OK);
        CHECK(other.shutdown(30s));
    }
    CHECK(server.drain(30s) && server.shutdown(30s));
    return 0;
}
