// A plugin of a host that has a frame to draw: nothing here may wait. The server says hello and how often it wants
// a beat; then the plugin identifies itself, and is ready. The host calls frame() sixty times a second.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "everlink.hpp"

using namespace std::chrono_literals;

class plugin {
  public:
    explicit plugin(const std::string &url) : client_(url) {
        // what is queued waits for the login; the login runs on a thread of the library's
        client_.on_login([](everlink::login &login) {
            auto hello = std::string(login.receive().view()); // "hello 250": a beat every so many ms
            if (hello.rfind("hello ", 0) != 0) login.fail("no hello: " + hello, true);
            login.set_heartbeat(everlink::milliseconds(std::atol(hello.c_str() + 6)), "beat", "ack");
            login.send("identify plugin");
            login.receive_matching([](everlink::message_view message) { return message.view() == "ready"; });
        });
        client_.set("backoff.initial", "100ms").set("outbox.overflow", "drop_oldest").start();
    }

    /// Once a frame: what has changed, and what has come.
    void frame() {
        while (auto event = client_.next_event()) std::printf("%s\n", event->c_str());
        switch (client_.state()) {
        case EVERLINK_STATE_CONNECTED:
            while (auto message = client_.receive(0ms)) scene_ = std::string(message->view());
            break;
        case EVERLINK_STATE_GAVE_UP:
            label_ = "refused: see the log";
            return;
        default:
            label_ = "connecting...";
            return;
        }
        label_ = "scene: " + scene_;
    }

    /// A button of the host's. Never waits, whatever the network does.
    void next_scene() { client_.send("next scene"); }

    const std::string &label() const { return label_; }

  private:
    everlink::client client_;
    std::string scene_ = "none", label_;
};

/// A server as the plugin wants one: it counts scenes, and beats.
static void serve(everlink::connection &session) {
    session.send("hello 50");
    for (int scene = 0;;) {
        auto message = session.receive();
        if (message.view() == "identify plugin") session.send("ready");
        if (message.view() == "beat") session.send("ack");
        if (message.view() == "next scene") session.send(std::to_string(++scene));
    }
}

int main() try {
    everlink::server server;
    // its own pings are not needed: the plugin beats
    server.set("heartbeat.kind", "listen").set("heartbeat.dead_after", "2s");
    server.bind("127.0.0.1:0", serve);
    plugin plugin("ws://127.0.0.1:" + std::to_string(server.port()));
    for (int frame = 0; frame < 1800; frame++) {
        plugin.frame();
        if (frame % 30 == 0) plugin.next_scene();
        if (plugin.label() == "scene: 3") {
            std::printf("%s\n", plugin.label().c_str());
            return 0;
        }
        std::this_thread::sleep_for(16ms);
    }
    std::fprintf(stderr, "no third scene: %s\n", plugin.label().c_str());
    return 1;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
