//! The sources of the library as a graph: which file names what of which other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// The way to a module or an item, from the root of the crate.
type Names = Vec<String>;

/// What an `impl` is for, or a field belongs to: the file that defines the type, and its name.
pub type Type = (String, String);

/// The library without its tests. Files are called by their paths below `src`.
#[derive(Default)]
pub struct Library {
    /// How many lines of code each file has.
    pub lines: BTreeMap<String, usize>,
    /// Which others each file names in its code. What a `mod.rs` hands on is where it comes from.
    pub uses: BTreeMap<String, BTreeSet<String>>,
    /// The `impl`s that lie in another file than their type: the type, and that file.
    pub strayed_impls: BTreeSet<(Type, String)>,
    /// Structs with fields that other files can reach.
    pub open_types: BTreeSet<Type>,
    /// What is named as only `lib.rs` names it: the file that does that, and the name.
    pub named_by_lib: BTreeSet<(String, String)>,
    modules: BTreeMap<Names, String>,
    imports: BTreeMap<(Names, String), Names>,
    /// The paths that stand in each module. A re-export is none: who names it there uses what it is.
    mentions: BTreeSet<(Names, Names)>,
    impls: Vec<Impl>,
    /// The structs, enums and traits that the modules define.
    defined: BTreeSet<Names>,
}

/// An `impl` that stands in a module.
struct Impl {
    module: Names,
    of: Names,
    /// The trait and its arguments: beside those it may stand, too.
    beside: Vec<Names>,
}

impl Library {
    pub fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut library = Self::default();
        let mut texts = BTreeMap::new();
        read_folder(&src, "", &mut texts);
        for name in texts.keys() {
            library.modules.insert(module_of(name), name.clone());
        }
        for (name, text) in &texts {
            let file = syn::parse_file(text).expect("a source file is Rust");
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let code = code.lines().map(str::trim_start);
            let code = code.filter(|line| !line.is_empty() && !line.starts_with("//"));
            library.lines.insert(name.clone(), code.count());
            let mut reader = Reader { name, module: module_of(name), library: &mut library };
            reader.visit_file(&file);
        }
        library.judge();
        library
    }

    /// The file and the item that a path means in a module, if it means one of this crate.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<Type> {
        let mut at = module.to_vec();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (Names::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            _ => {}
        }
        while let Some(name) = rest.first().filter(|name| self.is_child(&at, name)) {
            at.push(name.clone());
            rest = &rest[1..];
        }
        let is_rooted = at != module || matches!(path[0].as_str(), "crate" | "self" | "super");
        let Some(name) = rest.first() else { return Some((self.file_of(&at), String::new())) };
        match self.imports.get(&(at.clone(), name.clone())) {
            Some(target) if depth < 8 => {
                let target: Names = target.iter().chain(&rest[1..]).cloned().collect();
                // `use name::...` of another crate
                if target.first() == Some(name) && !self.is_child(&at, name) {
                    return None;
                }
                self.resolve(&at, &target, depth + 1)
            }
            _ if is_rooted => Some((self.file_of(&at), name.clone())),
            _ => None,
        }
    }

    fn is_child(&self, module: &[String], name: &str) -> bool {
        let mut child = module.to_vec();
        child.push(name.into());
        self.modules.contains_key(&child)
    }

    /// The file of a module, which may be one inside a file.
    fn file_of(&self, module: &[String]) -> String {
        let within = (0..=module.len()).rev().find_map(|end| self.modules.get(&module[..end]));
        within.expect("the root has a file").clone()
    }

    fn judge(&mut self) {
        for (module, path) in &self.mentions {
            let user = self.file_of(module);
            if let [root, name, ..] = &path[..] {
                if root == "crate" && !self.is_child(&[], name) {
                    self.named_by_lib.insert((user.clone(), name.clone()));
                }
            }
            if let Some((used, _)) = self.resolve(module, path, 0).filter(|used| used.0 != user) {
                self.uses.entry(user).or_default().insert(used);
            }
        }
        for Impl { module, of, beside } in &self.impls {
            let file = self.file_of(module);
            let is_here = |path: &Names| {
                let alone = [module.clone(), path.clone()].concat();
                self.defined.contains(&alone)
                    || self.resolve(module, path, 0).is_some_and(|found| found.0 == file)
            };
            if beside.iter().any(is_here) {
                continue;
            }
            if let Some(of) = self.resolve(module, of, 0).filter(|of| of.0 != file) {
                self.strayed_impls.insert((of, file));
            }
        }
    }
}

fn read_folder(folder: &Path, prefix: &str, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            read_folder(&path, &format!("{prefix}{name}/"), texts);
        } else if name.ends_with(".rs")
            && !name.ends_with("tests.rs")
            && !name.ends_with("model.rs")
        {
            let text = fs::read_to_string(&path).expect("a source file is text");
            texts.insert(format!("{prefix}{name}"), text);
        }
    }
}

fn module_of(name: &str) -> Names {
    let mut names: Names = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// Reads one file into the library.
struct Reader<'a> {
    name: &'a str,
    module: Names,
    library: &'a mut Library,
}

impl Reader<'_> {
    fn define(&mut self, name: &syn::Ident) {
        let mut path = self.module.clone();
        path.push(name.to_string());
        self.library.defined.insert(path);
    }

    fn mention(&mut self, path: Names) {
        self.library.mentions.insert((self.module.clone(), path));
    }

    fn import(&mut self, tree: &UseTree, mut path: Names, is_public: bool) {
        let (name, alias) = match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                return self.import(&tree.tree, path, is_public);
            }
            UseTree::Group(group) => {
                return group
                    .items
                    .iter()
                    .for_each(|tree| self.import(tree, path.clone(), is_public));
            }
            UseTree::Glob(_) => return self.mention(path),
            UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
        };
        let alias = if alias == "self" { path.last().cloned().unwrap_or_default() } else { alias };
        if name != "self" {
            path.push(name);
        }
        self.library.imports.insert((self.module.clone(), alias), path.clone());
        if !is_public {
            self.mention(path);
        }
    }

    /// What stands in a macro is not parsed: every path in it is found by its colons.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(name) if colons == 2 => path.push(name.to_string()),
                other => {
                    self.end_scan(&mut path);
                    match other {
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        TokenTree::Group(group) => self.scan(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
            colons = 0;
        }
        self.end_scan(&mut path);
    }

    fn end_scan(&mut self, path: &mut Names) {
        let path = std::mem::take(path);
        if !path.is_empty() {
            self.name(path);
        }
    }

    /// A name by itself may be a variable that is called like a module: it counts where it is imported.
    fn name(&mut self, path: Names) {
        let is_alone = path.len() == 1;
        if is_alone && !self.library.imports.contains_key(&(self.module.clone(), path[0].clone())) {
            return;
        }
        self.mention(path);
    }

    fn names(path: &syn::Path) -> Names {
        path.segments.iter().map(|segment| segment.ident.to_string()).collect()
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let words = attribute.parse_args::<TokenStream>().map(|tokens| tokens.to_string());
        let words = words.unwrap_or_default().replace(' ', "");
        words == "test" || words.starts_with("all(test") || words == "doctest"
    })
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        if item.leading_colon.is_none() {
            self.import(&item.tree, Names::new(), is_public);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.name(Self::names(path));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.scan(call.tokens.clone());
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let mut of = &*item.self_ty;
        while let syn::Type::Reference(reference) = of {
            of = &reference.elem;
        }
        if let syn::Type::Path(of) = of {
            let mut beside = Vec::new();
            if let Some((_, path, _)) = &item.trait_ {
                beside.push(Self::names(path));
                let arguments = path.segments.iter().map(|segment| &segment.arguments);
                for arguments in arguments {
                    let syn::PathArguments::AngleBracketed(arguments) = arguments else { continue };
                    beside.extend(arguments.args.iter().filter_map(|argument| match argument {
                        syn::GenericArgument::Type(syn::Type::Path(of)) => {
                            Some(Self::names(&of.path))
                        }
                        _ => None,
                    }));
                }
            }
            let of = Self::names(&of.path);
            self.library.impls.push(Impl { module: self.module.clone(), of, beside });
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.define(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.define(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.define(&item.ident);
        let is_public = matches!(item.vis, Visibility::Public(_));
        let is_open = |field: &syn::Field| match field.vis {
            Visibility::Inherited => false,
            Visibility::Public(_) => !is_public,
            Visibility::Restricted(_) => true,
        };
        if item.fields.iter().any(is_open) {
            self.library.open_types.insert((self.name.into(), item.ident.to_string()));
        }
        visit::visit_item_struct(self, item);
    }
}
